"""Look, do not read: figures with alt text, sliders that work without a kernel, tables, and a run's profile."""

from typing import TYPE_CHECKING

from chapter38.lazy import lazy

if TYPE_CHECKING:
    from chapter38.show.figures import Shown as Shown
    from chapter38.show.figures import axes as axes
    from chapter38.show.figures import figure as figure
    from chapter38.show.figures import graph as graph
    from chapter38.show.figures import pictures as pictures
    from chapter38.show.figures import table as table
    from chapter38.show.ladder import explorer as explorer
    from chapter38.show.ladder import ladder as ladder
    from chapter38.show.profile import Profile as Profile
    from chapter38.show.profile import profile as profile
    from chapter38.show.profile import sweep as sweep
    from chapter38.show.slider import slider as slider

__getattr__ = lazy(__name__, {
    "Shown": "figures", "axes": "figures", "figure": "figures", "graph": "figures", "pictures": "figures", "table": "figures",
    "explorer": "ladder", "ladder": "ladder", "Profile": "profile", "profile": "profile", "sweep": "profile", "slider": "slider",
})  # fmt: skip
