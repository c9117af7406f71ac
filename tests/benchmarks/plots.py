"""The curves of a run as pictures."""

from collections.abc import Mapping
from pathlib import Path

Curves = Mapping[str, Mapping[int, float]]


def draw(curves: Mapping[str, Curves], folder: Path) -> None:
    """Write length.png and sessions.png, of what was measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    if curves.get("length"):
        _figure(folder / "length.png", {"a turn, by the conversation's length": curves["length"]}, "messages stored")
    panels = {
        "a user's newest 20 sessions": curves.get("sessions: list", {}),
        "a turn": curves.get("sessions: turn", {}),
    }
    if all(panels.values()):
        _figure(folder / "sessions.png", panels, "sessions stored")


OURS = {"memory": "black", "SQLite NORMAL": "C0", "SQLite FULL": "C3", "diskcache": "C1", "Valkey": "C2"}
PEERS = ("C4", "C5", "C6", "C7", "C8", "C9", "navy", "darkkhaki")


def _figure(path: Path, panels: Mapping[str, Curves], along: str) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(2.5 + 6 * len(panels), 6), squeeze=False, sharey=True)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        peers = iter(PEERS * 2)
        for name, points in lines.items():
            floor = name.startswith("floor of ")
            look = {"color": OURS.get(name.removeprefix("floor of ")) or next(peers), "linewidth": 1.2, "marker": "."}
            look |= {"linestyle": ":" if floor else "--"}
            if name in OURS:
                look |= {"linewidth": 2.2, "marker": "o", "linestyle": "-"}
            axis.plot(list(points), list(points.values()), label=name, **look)
        axis.set(xscale="log", yscale="log", title=title, xlabel=along, ylabel="median, microseconds")
        axis.grid(visible=True, which="both", alpha=0.2)
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
