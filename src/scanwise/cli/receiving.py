"""Images from a scanner or PACS, results back to it: receive."""

from pathlib import Path

import click

from scanwise.cli.arguments import check_model
from scanwise.cli.endings import telling_if_stopped
from scanwise.cli.options import naming_model
from scanwise.cli.printing import say, talk


@click.command()
@click.argument("model")
@click.option(
    "--spool", required=True, type=click.Path(path_type=Path), help="A private folder for images and results."
)
@click.option("--allow", multiple=True, help="Title of an application entity that may send; several if repeated.")
@click.option("--aet", default="SCANWISE", show_default=True, help="Title of this application entity.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=11112, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65535),
    help="Take images by STOW-RS, at /dicom-web/studies of this port; 0 takes a free one. It needs --token-file.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="A file of mode 0600 with the token that every request of STOW-RS must bear.",
)
@click.option(
    "--quiet",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds without a new image after which a series is answered.",
)
@click.option("--send", multiple=True, help="AET@HOST:PORT that results are sent to by C-STORE; several if repeated.")
@click.option("--stow", multiple=True, help="URL of a DICOMweb service that results are sent to; several if repeated.")
@click.option(
    "--retry",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds before a result that was not taken is sent again; doubled each time, up to ten minutes.",
)
@click.option(
    "--keep-hours",
    type=click.FloatRange(0),
    help="Delete a series and its results so long after every destination has them; default: never.",
)
@click.option(
    "--keep-refused-hours",
    type=click.FloatRange(0),
    help="Delete the images of a series without a result so long after the last of them came; default: 168 (a week) with "
    "--keep-hours, else never.",
)
@click.option(
    "--most-megabytes",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Size of one object; a larger one ends its association.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM file with the own certificate; with --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file with its private key.")
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path),
    help="PEM file with the authorities that sign the certificates of the others, senders among them.",
)
@click.option("--parametric-map", is_flag=True, help="Give heatmaps as parametric maps too.")
@click.option("--codes", type=click.Path(path_type=Path), help="YAML with the codes of the classes.")
@click.option(
    "--least-free",
    default=1024,
    show_default=True,
    type=click.IntRange(0),
    help="Megabytes that stay free; below, images are refused (A700).",
)
@naming_model
def receive(
    model: str,
    spool: Path,
    allow: tuple[str, ...],
    aet: str,
    host: str,
    port: int,
    web_port: int | None,
    token_file: Path | None,
    quiet: float,
    send: tuple[str, ...],
    stow: tuple[str, ...],
    retry: float,
    keep_hours: float | None,
    keep_refused_hours: float | None,
    most_megabytes: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    parametric_map: bool,
    codes: Path | None,
    least_free: int,
    registry: str,
) -> None:
    """Answer DICOM series that arrive, in their study.

    They come by C-STORE with --allow, by STOW-RS with --web-port, or both.

    On this machine alone unless --host says otherwise, and encrypted where a certificate is given.

    MODEL is an exported folder, a run folder or its URL, a bundle, or NAME:VERSION of a registered model. Research use only.
    """
    check_model(model)
    talk()
    from scanwise.dicom_results.codes import read_codes
    from scanwise.pipeline.model_reference import locate_model
    from scanwise.receiving.destinations import parse_destinations
    from scanwise.receiving.encryption import Encryption
    from scanwise.receiving.receiver import ReceiverSettings, open_receiver
    from scanwise.receiving.spool import Spool
    from scanwise.receiving.storage import StorageAddress, WebAddress

    encryption = Encryption.parse(tls_cert, tls_key, tls_ca)
    if tls_ca is not None and tls_cert is None:
        say("Only what is sent is encrypted: senders are checked with --tls-cert and --tls-key.", fg="yellow", err=True)
    destinations = parse_destinations(send, stow, aet, encryption)
    address = StorageAddress(aet, allow, host, port, encryption, most_megabytes * 2**20) if allow else None
    if (web_port is None) != (token_file is None):
        raise click.UsageError("--web-port and --token-file go together: STOW-RS, and the token of those who may send.")
    web = None
    if web_port is not None and token_file is not None:
        web = WebAddress(token_file, host, web_port, encryption, most_megabytes * 2**20)
    if keep_refused_hours is None and keep_hours is not None:
        keep_refused_hours = 168.0
    keep, keep_refused = (None if hours is None else 3600 * hours for hours in (keep_hours, keep_refused_hours))
    settings = ReceiverSettings(address, quiet, retry, keep=keep, keep_refused=keep_refused, web=web)
    given = None if codes is None else read_codes(codes)
    with telling_if_stopped("What was acknowledged is in the spool; the next start goes on with it."):
        receiver = open_receiver(
            locate_model(model, registry),
            Spool(spool, least_free * 2**20),
            settings,
            destinations,
            given,
            maps=parametric_map,
        )
        receiver.run(
            lambda: False,
            lambda opened: say(f"{aet} receives by C-STORE at {host}:{opened}; Ctrl-C stops it.", err=True),
            lambda url: say(f"{aet} receives by STOW-RS at {url}; Ctrl-C stops it.", err=True),
        )
