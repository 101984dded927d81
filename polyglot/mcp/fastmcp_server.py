"""A server of FastMCP."""

from fastmcp import FastMCP

server = FastMCP("fastmcp")


@server.tool
def text(kib: int) -> str:
    """Returns a text of this size."""
    return "".join(f"{number:062}\n" + "\n" for number in range(kib * 16))


@server.tool
def table(rows: int) -> list[dict[str, int]]:
    """Returns rows with numbers."""
    return [{"row": row} for row in range(rows)]


server.run(show_banner=False)
