// Contents: at the side of a wide screen, folded on a narrow one.
const narrow = matchMedia("(max-width: 69.99rem)");
const contents = document.querySelector("nav details");
if (contents) {
  const fit = () => { contents.open = !narrow.matches; };
  fit();
  narrow.addEventListener("change", fit);
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && narrow.matches) contents.open = false;
  });
}
