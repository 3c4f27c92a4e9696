"""What every page has in common: one file without network access, whose policy allows its own style and script only.

A page is a template that extends `frame.html.j2`. Text of others is untrusted: the template escapes it, and data for
the script is JSON in which no character can end the script block. `report.css` is the style of all pages; `player.js`
shows their videos.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gigavideo_data.io.terminal import words

FOLDER = Path(__file__).parent
EMBED_BYTES = 20_000_000  # of videos in base64 and their texts: a limit of mail servers and phones


def render(template: Path, styles: list[Path], scripts: list[Path], data: object, **values: Any) -> str:
    """Render a page.

    Args:
        template: a Jinja template that extends `frame.html.j2`.
        styles: files that are joined into the page's style.
        scripts: files that are joined into the page's script.
        data: what the script reads; JSON-able.
        values: the variables of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["words"] = environment.filters["words"] = words
    style, script = ("\n".join(file.read_text("utf-8") for file in files) for files in (styles, scripts))
    return environment.get_template(template.name).render(
        values,
        style=style,
        script=script,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        data=json_for_html(data),
    )


def json_for_html(value: object) -> Markup:
    """JSON for a <script> block, without characters that could end the block or start a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def base64_text(data: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(data).decode("ascii")


def base64_bytes(num_bytes: int) -> int:
    """How many bytes `num_bytes` bytes have in base64."""
    return -(-num_bytes // 3) * 4


def _csp_hash(text: str) -> str:
    return "sha256-" + base64_text(hashlib.sha256(text.encode("utf-8")).digest())
