"""A DICOMweb server of a few files, with OHIF's viewer in front of it, at loopback: what somebody at a hospital sees."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pydicom

SOURCE = {
    "friendlyName": "study", "name": "study", "wadoUriRoot": "/dicom-web", "qidoRoot": "/dicom-web", "wadoRoot": "/dicom-web",
    "imageRendering": "wadors", "thumbnailRendering": "wadors", "enableStudyLazyLoad": True, "qidoSupportsIncludeField": False,
    "omitQuotationForMultipartRequest": True,
}  # fmt: skip
CONFIG = {
    "routerBasename": "/", "extensions": [], "modes": [], "showStudyList": True, "maxNumberOfWebWorkers": 1, "useCPURendering": True,
    "investigationalUseDialog": {"option": "never"}, "defaultDataSourceName": "study",
    "dataSources": [{"namespace": "@ohif/extension-default.dataSourcesModule.dicomweb", "sourceName": "study", "configuration": SOURCE}],
}  # fmt: skip
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_ROUTE = re.compile(
    r"/dicom-web/studies(?:/([\d.]+))?(?:/series)?(?:/([\d.]+))?(?:/instances)?(?:/([\d.]+))?(?:/(metadata)|/frames/(\d+))?"
)
_ALONE = Lock()  # pydicom is strict meanwhile, with all threads; of two at once the later one would leave it so
_PIXELS = ("7FE00010", "7FE00008")  # of whole numbers, and of floats


class _Handler(SimpleHTTPRequestHandler):
    objects: Sequence[pydicom.Dataset] = ()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            self._give(f"window.config = {json.dumps(CONFIG)};".encode(), "text/javascript")
        elif (match := _ROUTE.fullmatch(path)) is not None:
            self._answer(path, *match.groups())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"  # an address within the viewer
            super().do_GET()

    def _answer(
        self, path: str, study: str | None, series: str | None, sop: str | None, metadata: str | None, frame: str | None
    ) -> None:
        wanted = dict(zip(_LEVELS, (study, series, sop), strict=True))
        found = [
            entry for entry in self.objects if all(uid in (None, entry[name].value) for name, uid in wanted.items())
        ]
        if frame is not None:
            head = b"--part\r\nContent-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1\r\n\r\n"
            stored = found[0].PixelData
            size = len(stored) // int(found[0].get("NumberOfFrames") or 1)
            pixels = stored[(int(frame) - 1) * size : int(frame) * size]
            self._give(
                head + pixels + b"\r\n--part--\r\n", "multipart/related; type=application/octet-stream; boundary=part"
            )
            return
        if metadata is None:  # one entry a study, or a series
            level = {"studies": _LEVELS[0], "series": _LEVELS[1]}.get(path.rpartition("/")[2], _LEVELS[2])
            found = list({entry[level].value: entry for entry in found}.values())
        with _ALONE:
            rows = [entry.to_json_dict(bulk_data_threshold=2**40, suppress_invalid_tags=True) for entry in found]
        told = [{tag: value for tag, value in row.items() if tag not in _PIXELS} for row in rows]
        self._give(json.dumps(told).encode(), "application/dicom+json")

    def _give(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def viewing(viewer: Path, files: Sequence[Path]) -> Iterator[str]:
    """The address at which the viewer shows the study of these files, all of one study and uncompressed.

    Args:
        viewer: folder of the built viewer.
        files: DICOM files.
    """
    objects = [pydicom.dcmread(file) for file in files]
    handler = type("Handler", (_Handler,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(viewer)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/viewer?StudyInstanceUIDs={objects[0].StudyInstanceUID}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
