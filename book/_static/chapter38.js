// Small repairs that need the finished page, and what a reader has done, kept in this browser and nowhere else.
document.addEventListener("DOMContentLoaded", () => {
  // The theme leaves the title of the sidebar outside every landmark.
  for (const title of document.querySelectorAll(".sidebar-primary-items__start > .sidebar-primary-item:first-child:not(:has(nav))")) {
    title.setAttribute("role", "navigation");
    title.setAttribute("aria-label", "Home");
  }
  // Boxes that scroll can be reached with the keyboard.
  for (const box of document.querySelectorAll(".cell_output, div.highlight pre, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
  progress();
});

function progress() {
  const KEY = "chapter38.done";
  const lesson = (address) => (address.match(/\/(38_\w+)\.html/) || [])[1];
  const done = () => {
    try {
      return JSON.parse(localStorage.getItem(KEY)) || [];
    } catch {
      return [];
    }
  };
  // A tick at every link to a lesson that is done; the words are for screen readers.
  const tick = () => {
    document.querySelectorAll(".lesson-done").forEach((mark) => mark.remove());
    for (const link of document.querySelectorAll(".bd-sidenav a[href], main table a[href]")) {
      if (!done().includes(lesson(link.pathname))) continue;
      const mark = document.createElement("span");
      mark.className = "lesson-done";
      mark.innerHTML = '<span aria-hidden="true"> \u2713</span><span class="visually-hidden"> (done)</span>';
      link.append(mark);
    }
  };
  const here = lesson(location.pathname);
  const article = document.querySelector("article.bd-article");
  if (here && article) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn lesson-progress";
    const show = () => {
      const is = done().includes(here);
      button.setAttribute("aria-pressed", is);
      button.textContent = is ? "\u2713 Done; kept in this browser" : "Mark this lesson as done";
    };
    button.addEventListener("click", () => {
      const others = done().filter((name) => name !== here);
      try {
        localStorage.setItem(KEY, JSON.stringify(done().includes(here) ? others : [...others, here]));
      } catch {
        button.textContent = "This browser keeps nothing for this site";
        return;
      }
      show();
      tick();
    });
    show();
    article.append(button);
  }
  tick();
}
