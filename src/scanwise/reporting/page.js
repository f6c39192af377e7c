// What a page can do beyond being read. It has neither "less than" nor "ampersand", so that the page is XML as well.
(() => {
  "use strict";
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const textOf = (cell) => cell.textContent.trim();

  // A link opens what it leads to.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  all("nav a, a.chip").forEach((link) => link.addEventListener("click", () => setTimeout(reveal)));
  if (location.hash) reveal();

  // Failures by true and predicted class.
  all("[data-filter]").forEach((box) => {
    const table = box.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    const bar = make("p", "");
    bar.className = "filters";
    const picks = [1, 2].map((column) => {
      const select = make("select", "", make("label", textOf(table.tHead.rows[0].cells[column]) + " ", bar));
      ["all", ...new Set(rows.map((row) => textOf(row.cells[column])))].forEach((name) => make("option", name, select));
      return [column, select];
    });
    const count = make("output", "", bar);
    const show = () => {
      rows.forEach((row) => {
        row.hidden = picks.some(([column, select]) => select.selectedIndex > 0 ? select.value !== textOf(row.cells[column]) : false);
      });
      count.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length;
    };
    picks.forEach(([, select]) => select.addEventListener("change", show));
    show();
    box.prepend(bar);
  });

  // Tables by column: numbers as numbers, all else as text.
  const numberIn = (text) => {
    const match = text.replace(/\u2212/g, "-").replace(/,/g, "").match(/^[^\d+-]{0,12}([+-]?\d+(\.\d+)?)/);
    return match ? parseFloat(match[1]) : NaN;
  };
  all("table").forEach((table) => {
    const body = table.tBodies[0];
    if (!body || !table.tHead || 3 > body.rows.length || table.matches(".confusion, .facts")) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", textOf(head));
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        const keyed = [...body.rows].map((row) => [row, textOf(row.cells[column])]);
        const numbers = keyed.filter(([, text]) => !isNaN(numberIn(text))).length > keyed.length / 2;
        const key = (text) => isNaN(numberIn(text)) ? -Infinity : numberIn(text);
        keyed.sort(([, a], [, b]) => way * (numbers ? key(a) - key(b) : a.localeCompare(b)));
        body.append(...keyed.map(([row]) => row));
      });
    });
  });

  // A cell of a confusion matrix shows its scans.
  all(".confusion a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    const list = document.getElementById(link.hash.slice(1));
    const outer = list.closest(".cells");
    outer.open = true;
    all("details", outer).forEach((cell) => { cell.open = cell.contains(list); });
    list.closest("details").querySelector("summary").focus();
  }));

  // Values under the pointer.
  const tip = make("div", "", document.body);
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  all("svg[data-points]").forEach((svg) => {
    const lines = JSON.parse(svg.dataset.points);
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let near = 900;
      tip.hidden = true;
      lines.forEach(([title, points]) => points.forEach(([x, y, text]) => {
        const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
        if (distance > near) return;
        near = distance;
        tip.textContent = title + ": " + text;
        tip.hidden = false;
      }));
      tip.style.left = Math.max(4, Math.min(event.pageX + 12, innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = event.pageY + 14 + "px";
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  });

  // Threshold and prevalence: Wilson intervals of sensitivity and specificity, adjusted logit intervals of the
  // predictive values (Mercaldo, Lau and Zhou 2007).
  const Z = 1.959964;
  const percent = (share) => isFinite(share) ? (100 * share).toFixed(0) + "\u00a0%" : "\u2013";
  const wilson = (hits, count) => {
    const middle = (hits + Z * Z / 2) / (count + Z * Z);
    const reach = Z * Math.sqrt(hits * (count - hits) / count + Z * Z / 4) / (count + Z * Z);
    return [hits / count, Math.max(0, middle - reach), Math.min(1, middle + reach)];
  };
  const logistic = (value) => 1 / (1 + Math.exp(-value));
  const adjusted = (hits, count) => (hits + Z * Z / 2) / (count + Z * Z);
  const predictive = (right, wrong, share, rightCount, wrongCount, rightHits, wrongHits) => {
    // right: those called who are of it; wrong: those called who are not; share: how common the right ones are
    const value = right * share / (right * share + wrong * (1 - share));
    const a = adjusted(rightHits, rightCount), b = adjusted(wrongHits, wrongCount);
    const middle = Math.log(a * share / (b * (1 - share)));
    const reach = Z * Math.sqrt((1 - a) / (a * (rightCount + Z * Z)) + (1 - b) / (b * (wrongCount + Z * Z)));
    return [value, logistic(middle - reach), logistic(middle + reach)];
  };
  all("[data-explore]").forEach((box) => {
    const classes = JSON.parse(box.dataset.explore);
    const select = box.querySelector("select");
    const [threshold, prevalence] = all("input", box);
    const outputs = all("label output", box);
    const cells = all("tbody td", box);
    const show = () => {
      const { positives, negatives, hits, alarms } = classes[select.selectedIndex];
      const cut = Math.round(100 * threshold.value), share = Number(prevalence.value);
      const tp = hits[cut], fp = alarms[cut], fn = positives - tp, tn = negatives - fp;
      const rates = [
        wilson(tp, positives), wilson(tn, negatives),
        predictive(tp / positives, fp / negatives, share, positives, negatives, tp, fp),
        predictive(tn / negatives, fn / positives, 1 - share, negatives, positives, tn, fn),
      ];
      rates.forEach(([value, low, high], index) => {
        cells[index].textContent = isFinite(value) ? percent(value) + " (" + percent(low) + " to " + percent(high) + ")" : "none called";
      });
      outputs[0].textContent = Number(threshold.value).toFixed(2);
      outputs[1].textContent = percent(share);
    };
    select.addEventListener("change", () => {
      const { positives, negatives } = classes[select.selectedIndex];
      prevalence.value = positives / (positives + negatives);
      show();
    });
    [threshold, prevalence].forEach((slider) => slider.addEventListener("input", show));
    select.dispatchEvent(new Event("change"));
    box.hidden = false;
  });
})();
