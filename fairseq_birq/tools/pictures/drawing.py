"""What all pictures share: print width, fonts, colours and styles that survive colour-blindness and grey print."""

from contextlib import contextmanager
from pathlib import Path

from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError

# Okabe and Ito's colours, which people with colour-blindness tell apart; line styles and markers differ too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
COLOUR_MAP = "cividis"  # even for all eyes, and in grey
WIDTH_CM = 17.0  # of a page's text: pictures are printed as they are

_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names from files may hold a $
}


@contextmanager
def picture(path, height_cm: float, width_cm: float = WIDTH_CM):
    """An empty matplotlib figure, which is written to `path` (.png or .pdf) at the end, whole or not at all.

    Raises:
        UserError: matplotlib is missing, or the suffix is another.
    """
    path = Path(path)
    if path.suffix not in (".png", ".pdf"):
        raise UserError(f"{path}: a picture is a .png or a .pdf file")
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("the picture needs matplotlib: pip install 'fairseq_birq[plot]'") from None
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "agg"}):
        figure = Figure(figsize=(width_cm / 2.54, height_cm / 2.54), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        dates = {"CreationDate": None} if path.suffix == ".pdf" else {}
        with written_whole(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=200, metadata=dates)


def short_names(paths) -> list:
    """File names without suffix, with their folders' names where they are the same."""
    paths = [Path(path) for path in paths]
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [f"{path.absolute().parent.name}/{path.stem}" for path in paths]


def heat_map(axes, matrix, rows, columns, label: str, values: bool = True, low=None, high=None):
    """A matrix in colours with a colour bar, and its values in the cells where they are few.

    matrix: (len(rows), len(columns)) nested lists or array
    """
    import numpy as np

    matrix = np.asarray(matrix, dtype=float)
    image = axes.imshow(matrix, cmap=COLOUR_MAP, aspect="auto", vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.02).outline.set_visible(False)
    if values and len(columns) <= 16:
        middle = sum(image.get_clim()) / 2
        for (row, column), value in np.ndenumerate(matrix):
            colour = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=6.5)
    return image
