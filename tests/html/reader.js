// Clicks through the page as a reader would and writes what is wrong into it.
"use strict";
{
  const found = [];
  const expect = (is, what) => { if (!is) found.push(what); };
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  try {
    // Everything that can be clicked has a name and can be reached with the keyboard.
    for (const control of all("button, a[href], summary")) {
      if (control.hidden) continue;
      expect(control.textContent.trim() || control.getAttribute("aria-label"), "a control without a name");
      control.focus();
      const reached = document.activeElement === control || control.closest("details:not([open])");
      expect(reached, "the keyboard does not reach " + control.textContent);
    }
    for (const image of all("svg[role=img]")) {
      const name = image.closest("figure")?.getAttribute("aria-labelledby");
      expect(name && document.getElementById(name)?.textContent.trim(), "a figure without a name");
    }
    for (const table of all("table")) {
      const rows = [...table.rows].map((row) => row.cells.length);
      expect(new Set(rows).size === 1, "a table with ragged rows: " + rows);
      expect(all("thead th", table).every((head) => head.scope === "col"), "a head without a scope");
    }
    const order = all("h1, h2, h3").map((head) => Number(head.tagName[1]));
    expect(order.every((level, at) => level - (order[at - 1] ?? 0) <= 1), "a heading level is left out");

    // Links lead somewhere on the page.
    for (const link of all("a[href]")) {
      expect(document.querySelector(link.getAttribute("href")), "a dead link " + link.getAttribute("href"));
    }

    // Details open.
    for (const summary of all("summary")) {
      summary.click();
      expect(summary.parentElement.open, "details do not open");
    }

    // A click on a head sorts, another one turns the order round.
    for (const table of all("table.sortable")) {
      const heads = all("thead th", table);
      const at = heads.findIndex((head) => ["AP", "cell"].includes(head.textContent.trim()));
      const read = () => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim());
      const before = read();
      heads[at].querySelector("button").click();
      expect(heads[at].getAttribute("aria-sort") === "ascending", "sorting is not announced");
      const rising = read();
      heads[at].querySelector("button").click();
      const falling = read();
      expect(new Set(before).size < 2 || rising.join() !== falling.join(), "sorting changes nothing");
      expect([...rising].sort().join() === [...before].sort().join(), "sorting loses rows");
    }

    // The switch of colours changes the page, figures included, and text stays legible in each.
    const light = (color) => {
      const parts = color.match(/[\d.]+/g).slice(0, 3).map((part) => {
        const value = part / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const background = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (!/^rgba\(.*, 0\)$/.test(color)) return color;
      }
      return "rgb(255, 255, 255)";
    };
    const theme = document.getElementById("theme");
    const pages = new Set(), figures = new Set();
    for (let choice = 0; choice < 3; choice += 1) {
      theme.click();
      for (const element of all("p, td, th, a, caption, figcaption, code, button, li")) {
        if (!element.textContent.trim() || element.closest(".unseen")) continue;
        const [one, two] = [getComputedStyle(element).color, background(element)].map(light);
        const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        expect(contrast >= 4.5, "hard to read: " + element.tagName + " " + element.textContent.slice(0, 30) + " " + contrast);
      }
      pages.add(getComputedStyle(document.body).backgroundColor);
      const painted = document.querySelector("figure svg [fill]");
      figures.add(painted && getComputedStyle(painted).fill);
    }
    expect(pages.size === 2, "the switch does not change the page's colours");
    expect(figures.size === 2, "the switch does not change the figures' colours");
    expect(document.getElementById("said").textContent.includes("Colours"), "the switch is not announced");

    // Copying says what it did, whether or not the browser allows it.
    const copy = document.querySelector("button.copy");
    copy.click();

    // Wide tables scroll in their own box; the page itself does not.
    const wide = document.documentElement.scrollWidth - window.innerWidth;
    expect(wide <= 0, "the page is " + wide + " pixels wider than the window of " + window.innerWidth);
    setTimeout(() => {
      expect(["Copied", "Selected"].includes(copy.textContent), "copying says nothing");
      finish();
    }, 500);
  } catch (error) {
    found.push(String(error));
    finish();
  }
  function finish() {
    const report = document.createElement("pre");
    report.id = "found";
    report.textContent = found.length ? found.join("\n") : "done";
    document.body.append(report);
  }
}
