for (const gallery of document.querySelectorAll(".gallery")) {
  const wanted = { outcome: "", view: "" };
  const search = gallery.querySelector(".search");
  const items = [...gallery.querySelectorAll(".rollout")];
  const none = gallery.querySelector(".none");
  const apply = () => {
    const words = search.value.toLowerCase();
    let visible = 0;
    for (const item of items) {
      const shown =
        (!wanted.outcome || item.dataset.outcome === wanted.outcome) &&
        (!wanted.view || item.dataset.view === wanted.view) &&
        (!words || item.textContent.toLowerCase().includes(words));
      item.hidden = !shown;
      visible += shown;
    }
    none.hidden = visible > 0;
  };
  for (const chip of gallery.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      const kind = "outcome" in chip.dataset ? "outcome" : "view";
      wanted[kind] = chip.dataset[kind];
      for (const other of chip.parentElement.children) {
        other.setAttribute("aria-pressed", String(other === chip));
      }
      apply();
    });
  }
  search.addEventListener("input", apply);
}
