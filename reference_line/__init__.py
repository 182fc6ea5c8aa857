"""The reference line: a synthetic PCB inspection line that knows its own truth.

From artwork to frame: ``artwork`` draws layers at twice the camera's resolution, ``motifs`` fills a
board with legitimate copper, ``survey`` and ``defects`` place the six defects, ``nuisances`` adds
what only looks like one, ``optics`` images it, ``board`` puts a board together and measures its
truth boxes, ``line`` moves boards under the camera.  ``truth`` holds the labels, the box convention
and the values that describe a frame or a physical defect.

On top of it: ``dataset`` exports COCO datasets, ``preview`` draws a mosaic, ``camera`` plays the
line into the edge node, with boards that ``renderer`` makes ahead in another process.
"""
