"""Draws the pictures of the concepts: `python docs/pictures/draw.py` writes them beside this file.

Each is an SVG with a card of its own behind it, which follows the reader's light or dark setting.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
STYLE = """
  .card { fill: #fafafa; }
  .box { fill: #ffffff; stroke: #5c6bc0; stroke-width: 1.5; }
  .main { fill: #e8eaf6; }
  .good { fill: #e3f4e6; stroke: #3d9a50; }
  .bad { fill: #fdeaea; stroke: #cf5a5a; }
  .end { fill: #fff4d9; stroke: #c79420; }
  .idle { fill: #eceff1; stroke: #90a4ae; stroke-dasharray: 3 2; }
  .line { fill: none; stroke: #607d8b; stroke-width: 1.5; marker-end: url(#tip); }
  .dashed { stroke-dasharray: 4 3; }
  .tip { fill: #607d8b; }
  text { font: 14px system-ui, sans-serif; fill: #263238; }
  .name { font-weight: 600; }
  .small { font-size: 12px; fill: #546e7a; }
  .code { font: 13px ui-monospace, monospace; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #22252e; }
    .box { fill: #2b2f3b; stroke: #8c9eff; }
    .main { fill: #323a5e; }
    .good { fill: #23402a; stroke: #6fc381; }
    .bad { fill: #4a2a2c; stroke: #e98b8b; }
    .end { fill: #463a1c; stroke: #e0b755; }
    .idle { fill: #2f353a; stroke: #78909c; }
    .line { stroke: #b0bec5; }
    .tip { fill: #b0bec5; }
    text { fill: #eceff1; }
    .small { fill: #b0bec5; }
  }
"""


class Drawing:
    """Shapes on a card."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.title, self.parts = (width, height), title, list[str]()

    def box(self, x: float, y: float, width: float, height: float, kind: str = "") -> None:
        """Draw a box with its upper left corner at x, y."""
        place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        self.parts.append(f'<rect class="box {kind}" {place} rx="6"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write words whose middle, or beginning, is at x; `|` begins a new line."""
        for number, line in enumerate(words.split("|")):
            place = f'x="{x}" y="{y + 17 * number}" text-anchor="{anchor}"'
            self.parts.append(f'<text class="{kind}" {place}>{escape(line)}</text>')

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """Draw an arrow along points."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path class="line {kind}" d="M{path}"/>')

    def line(self, *points: tuple[float, float]) -> None:
        """Draw a line along points, which another one goes on from."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path class="line" style="marker-end: none" d="M{path}"/>')

    def labelled(
        self, x: float, y: float, size: tuple[float, float], words: str, kind: str = ""
    ) -> None:
        """Draw a box with a name, and what is said of it, in its middle."""
        width, height = size
        self.box(x, y, width, height, kind)
        name, *said = words.split("|")
        top = y + height / 2 + 5 - 8.5 * len(said)
        self.text(x + width / 2, top, name, "name")
        for number, line in enumerate(said, 1):
            self.text(x + width / 2, top + 17 * number, line, "small")

    def svg(self) -> str:
        """Return the picture."""
        width, height = self.size
        tip = '<path class="tip" d="M0 0 L8 4 L0 8 z"/>'
        marker = 'id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
            f"\n<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            f'<defs><marker {marker} markerUnits="userSpaceOnUse">{tip}</marker></defs>\n'
            f'<rect class="card" width="{width}" height="{height}" rx="10"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def loop() -> Drawing:
    """The loop: what happens to a window."""
    drawing = Drawing(840, 400, "The loop, from a window to a stop")
    size, columns = (164, 62), (36, 236, 436, 636)
    for x, words in zip(columns, STEPS, strict=True):
        drawing.labelled(x, 40, size, words, "main")
    for x in columns[:3]:
        drawing.arrow((x + 164, 71), (x + 198, 71))
    for x, (words, kind) in zip(columns, RESULTS, strict=True):
        drawing.labelled(x, 180, (164, 76), words, kind)
        drawing.arrow((718, 102), (718, 140), (x + 82, 140), (x + 82, 178))
    for x in columns[:3]:
        drawing.line((x + 82, 256), (x + 82, 290))
    drawing.arrow((518, 290), (16, 290), (16, 71), (34, 71))
    drawing.text(118, 312, "the next window", "small")
    drawing.arrow((636, 218), (618, 218), (618, 290), (520, 290), kind="dashed")
    drawing.text(
        606, 312, "forks and variants try first;|one that is better goes on", "small", "end"
    )
    drawing.labelled(636, 310, (164, 66), "stop|the agent holds|the best policy", "end")
    drawing.arrow((718, 256), (718, 308))
    return drawing


STEPS = (
    "step|environments fill|a window",
    "learn|the agent improves",
    "evaluate|a score, or none",
    "judge|against the best,|noise and trend",
)
RESULTS = (
    ("nothing new|evaluate more rarely,|tune where in doubt", ""),
    ("better|keep the policy", "good"),
    ("fallen, twice|roll back, if asked", "bad"),
    ("plateau|no gain beyond noise,|at two horizons", "end"),
)


CELLS = {".": ("main", ""), "T": ("bad", "term."), "C": ("end", "trunc."), "r": ("idle", "reset")}
"""How rows are drawn, by a letter."""


def rows() -> Drawing:
    """The rows of a window of three environments."""
    drawing = Drawing(760, 330, "A window: eight steps of three environments")
    left, top, width, height = 130, 70, 66, 46
    drawing.text(left + 4 * width, 34, "time, T = 8 steps of each environment", "small")
    drawing.arrow((left + 4 * width + 130, 30), (left + 8 * width, 30))
    for number, letters in enumerate(("...Tr...", "........", ".....Cr.")):
        y = top + number * (height + 10)
        drawing.text(left - 12, y + 28, f"environment {number}", anchor="end")
        for step, letter in enumerate(letters):
            kind, words = CELLS[letter]
            x = left + step * width
            drawing.box(x + 2, y, width - 4, height, kind)
            if step in (0, 7) and letter == ".":
                words = "row"
            drawing.text(x + width / 2, y + 28, words, "small")
        drawing.arrow(
            (left + 8 * width + 2, y + 23), (left + 8 * width + 34, y + 23), kind="dashed"
        )
    drawing.text(712, 60, "final_obs", "code")
    y = 258
    legend = (
        ("main", "a row: obs, action, reward"),
        ("bad", "terminated: over by its own rules"),
        ("end", "truncated: cut, by a time limit"),
        ("idle", "an environment's own reset: no row"),
    )
    for number, (kind, words) in enumerate(legend):
        x, line = 130 + 290 * (number % 2), y + 30 * (number // 2)
        drawing.box(x, line, 20, 20, kind)
        drawing.text(x + 30, line + 15, words, "small", anchor="start")
    return drawing


def bootstrap() -> Drawing:
    """What follows a row, in the return that is learned."""
    drawing = Drawing(760, 286, "What a row is worth, where an episode or a window ends")
    cases = (
        (46, "terminated", "bad", "nothing follows", "r"),
        (126, "truncated", "end", "its true last observation", "r + gamma V(last observation)"),
        (206, "window ends", "main", "the observation after it", "r + gamma V(final_obs)"),
    )
    for y, name, kind, after, worth in cases:
        for x in (40, 106):
            drawing.box(x, y, 60, 52, "main")
        drawing.box(172, y, 100, 52, kind)
        drawing.text(222, y + 31, name, "small")
        drawing.arrow((274, y + 26), (312, y + 26), kind="dashed")
        drawing.box(314, y, 176, 52, "idle" if name == "terminated" else "good")
        drawing.text(402, y + 31, after, "small")
        drawing.text(514, y + 31, worth, "code", anchor="start")
    drawing.text(40, 30, "rows", "small", anchor="start")
    drawing.text(402, 30, "what the row led to", "small")
    drawing.text(514, 30, "what the row is worth", "small", anchor="start")
    return drawing


def states() -> Drawing:
    """The states of the loop."""
    drawing = Drawing(840, 380, "The states of the loop")
    size = (160, 66)
    drawing.labelled(40, 70, size, "ACTIVE|exploring, improving", "good")
    drawing.labelled(350, 70, size, "COOLING|no recent improvement", "main")
    drawing.labelled(640, 70, size, "DORMANT|nothing left to gain", "end")
    drawing.labelled(195, 270, size, "WATCHDOG|a fall is in doubt", "bad")
    drawing.arrow((200, 90), (348, 90))
    drawing.text(275, 62, "5 evaluations|without improvement", "small")
    drawing.arrow((350, 116), (202, 116))
    drawing.text(275, 136, "improvement", "small")
    drawing.arrow((510, 103), (638, 103))
    drawing.text(574, 76, "the plateau|test holds", "small")
    drawing.arrow((720, 136), (720, 180))
    drawing.text(720, 202, "stop, or go on from a fork|or a variant that is better", "small")
    drawing.arrow((80, 136), (80, 303), (193, 303))
    drawing.text(88, 250, "a deep fall", "small", anchor="start")
    drawing.arrow((470, 136), (470, 303), (357, 303))
    drawing.text(462, 250, "a deep fall", "small", anchor="end")
    drawing.arrow((235, 268), (150, 138))
    drawing.text(200, 172, "confirmed:|roll back, if asked", "small", anchor="start")
    drawing.arrow((310, 268), (395, 138), kind="dashed")
    drawing.text(362, 210, "cleared", "small", anchor="start")
    drawing.text(275, 358, "the next window is evaluated, to confirm or to clear it", "small")
    return drawing


PICTURES = {"loop": loop, "rows": rows, "bootstrap": bootstrap, "states": states}


def main() -> None:
    """Write the pictures."""
    for name, draw in PICTURES.items():
        (HERE / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
