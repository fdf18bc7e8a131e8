// Frames under a slider, without a kernel: <div class="filmstrip" data-frames='[["a.png", "what it shows"], …]'>.
document.addEventListener("DOMContentLoaded", () => {
  for (const strip of document.querySelectorAll(".filmstrip[data-frames]")) {
    const frames = JSON.parse(strip.dataset.frames);
    const image = strip.querySelector("img");
    const slider = strip.querySelector("input[type=range]");
    const label = strip.querySelector("output");
    frames.forEach(([source]) => { new Image().src = source; });
    slider.max = frames.length - 1;
    slider.addEventListener("input", () => {
      const [source, text] = frames[slider.value];
      image.src = source;
      image.alt = text;
      label.textContent = text;
      slider.setAttribute("aria-valuetext", text);
    });
  }
  // The theme leaves the title of the sidebar outside every landmark.
  for (const title of document.querySelectorAll(".sidebar-primary-items__start > .sidebar-primary-item:first-child:not(:has(nav))")) {
    title.setAttribute("role", "navigation");
    title.setAttribute("aria-label", "Home");
  }
  // Scrollable boxes can be reached with the keyboard.
  for (const box of document.querySelectorAll(".cell_output, div.highlight pre, .table-responsive, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
