"""A server of the official Python SDK: MCP over standard input and output."""

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("python-sdk")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def text(kib: int) -> str:
    """Returns a text of this size."""
    return "".join(f"{number:062}\n" + "\n" for number in range(kib * 16))


@server.tool()
async def slow(steps: int, context: Context) -> str:
    """Reports progress."""
    for step in range(steps):
        await context.report_progress(step + 1, steps, f"step {step + 1}")
    return "done"


@server.resource("notes://today")
def today() -> str:
    """The notes of today."""
    return "remember the milk"


@server.prompt()
def review(change: str) -> str:
    """Reviews a change."""
    return f"Review {change}."


server.run()
