"""Pictures of graphs: .svg, .png, .html, .dot and .mmd, laid out without any other program.

    expressions --graph--> nodes, edges --boxes--> layers, loops --scene, layout--> places
                svg, png, html, dot, mermaid print the scene; facts is what the page knows of a node

>>> sg.draw(step, "step.html", data={"x": X, "y": Y})
"""

from symgrad.draw.drawing import Drawing, draw

__all__ = ["Drawing", "draw"]
