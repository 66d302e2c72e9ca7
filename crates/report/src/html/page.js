// Everything here is comfort: the page says the same without it.
"use strict";
{
  const said = document.getElementById("said");
  const say = (text) => { said.textContent = text; };

  // Colours: the system's, or what the reader chose.
  const theme = document.getElementById("theme");
  const choices = [["", "as the system"], ["light", "light"], ["dark", "dark"]];
  let chosen = 0;
  theme.hidden = false;
  theme.addEventListener("click", () => {
    chosen = (chosen + 1) % choices.length;
    const [value, words] = choices[chosen];
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
    theme.querySelector("span").textContent = words;
    say("Colours: " + words);
  });

  // Commands are copied with one key.
  for (const button of document.querySelectorAll("button.copy")) {
    const code = button.parentElement.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        say("Copied");
        button.textContent = "Copied";
      } catch {
        // A page from a disk may not be allowed to: the text is selected instead.
        getSelection().selectAllChildren(code);
        say("Selected; copy it with your keyboard");
        button.textContent = "Selected";
      }
    });
  }

  // Figures leave the page as files, in the light colours that papers use.
  for (const button of document.querySelectorAll("button.save")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const svg = button.closest("figure").querySelector("svg");
      const link = document.createElement("a");
      const text = new XMLSerializer().serializeToString(svg);
      link.href = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
      link.download = button.dataset.name;
      link.click();
      say("Saved " + button.dataset.name);
    });
  }

  // A click on a head sorts: numbers by value, words by letter, what is missing last.
  const number = (text) => Number.parseFloat(text.replace("\u2212", "-").replace("+", ""));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        const text = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
        // Ids and times begin with digits as well: a column is numbers only if all of it is.
        const isNumber = (cell) => ["-", "missing", "reference"].includes(cell) || /^[+\u2212-]?\d+(\.\d+)?( |$)/.test(cell);
        const numeric = rows.every((row) => isNumber(text(row)));
        rows.sort((a, b) => {
          const [one, two] = [text(a), text(b)];
          if (!numeric) return rising ? one.localeCompare(two) : two.localeCompare(one);
          const [x, y] = [number(one), number(two)];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return rising ? x - y : y - x;
        });
        table.tBodies[0].append(...rows);
        say("Sorted by " + button.textContent + (rising ? ", rising" : ", falling"));
      });
    });
  }
}
