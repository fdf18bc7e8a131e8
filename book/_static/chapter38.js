// Small repairs that need the finished page.
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
});
