"""A heat map of shares as SVG: contexts to the right, depths downwards. No dependencies."""

import html

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 96, 44, 92, 62
# From nothing right to everything right; every one readable with the text that stands on it.
LOW, MIDDLE, HIGH = (178, 24, 43), (253, 219, 199), (33, 102, 172)


def label(tokens: int) -> str:
    return f"{tokens >> 20}M" if tokens >= 1 << 20 else f"{tokens >> 10}K"


def colour(share: float) -> tuple[int, int, int]:
    """Half of the scale lies above 90%, where good models differ."""
    place = share / 0.9 * 0.5 if share < 0.9 else 0.5 + (share - 0.9) / 0.1 * 0.5
    begin, end, part = (LOW, MIDDLE, 2 * place) if place < 0.5 else (MIDDLE, HIGH, 2 * place - 1)
    return tuple(round(a + (b - a) * part) for a, b in zip(begin, end))


def draw(title: str, contexts: list[int], bands: list[str], shares: dict) -> str:
    """shares: (context, depth index) -> (right, asked)."""
    width, height = LEFT + CELL_WIDTH * len(contexts) + 16, TOP + CELL_HEIGHT * len(bands) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13" '
        'text-anchor="middle">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{width / 2}" y="24" font-size="15">{html.escape(title)}</text>',
        f'<text x="{LEFT - 10}" y="{TOP - 10}" text-anchor="end">depth</text>',
    ]
    for column, tokens in enumerate(contexts):
        x = LEFT + CELL_WIDTH * column
        parts.append(f'<text x="{x + CELL_WIDTH / 2}" y="{TOP - 10}">{label(tokens)}</text>')
        for row in range(len(bands)):
            if (tokens, row) not in shares:
                continue
            right, asked = shares[tokens, row]
            fill, y = colour(right / asked), TOP + CELL_HEIGHT * row
            ink = "white" if sum(fill) < 420 else "black"
            parts.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{CELL_WIDTH - 2}" '
                f'height="{CELL_HEIGHT - 2}" fill="rgb{fill}">'
                f"<title>{right} of {asked}</title></rect>"
                f'<text x="{x + CELL_WIDTH / 2}" y="{y + CELL_HEIGHT / 2 + 5}" '
                f'fill="{ink}">{100 * right / asked:.1f}%</text>')
    for row, band in enumerate(bands):
        y = TOP + CELL_HEIGHT * row + CELL_HEIGHT / 2 + 5
        parts.append(f'<text x="{LEFT - 10}" y="{y}" text-anchor="end">{band}</text>')
    parts.append(f'<text x="{LEFT + CELL_WIDTH * len(contexts) / 2}" y="{height - 14}">'
                 "tokens of the document</text></svg>\n")
    return "\n".join(parts)
