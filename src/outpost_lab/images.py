"""The images of containers: built once, named by a digest of the recipe, shared by instances."""

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from outpost.errors import OutpostError
from outpost.tools import run
from outpost_lab import aptcache
from outpost_lab.engine import Note, apt_install

IMAGES = Path(__file__).with_suffix("")
SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
PARENT = {
    "apt-cache": "rootfs", "base": "rootfs", "stock": "base", "world": "base", "postfix": "world", "exim": "world",
    "acme": "world", "vault": "base", "collector": "base",
}  # fmt: skip
LABEL = "outpost.image"


def tag(name: str) -> str:
    """The image's full name; a changed recipe, or a changed parent's, gives another one."""
    return f"outpost-{name}:{_digest(name)}"


def build(
    client: docker.DockerClient,
    names: tuple[str, ...],
    *,
    install: bool = False,
    note: Note = lambda _text: None,
) -> None:
    """Builds missing images (keys of ``PARENT``), parents first; `install` allows to install mmdebstrap."""
    for name in names:
        with suppress(ImageNotFound):
            client.images.get(tag(name))
            continue
        if name == "rootfs":
            _rootfs(client, install=install, note=note)
            continue
        build(client, (PARENT[name],), install=install, note=note)
        proxy: dict[str, str] = {}
        if name != "apt-cache":
            build(client, ("apt-cache",), install=install, note=note)
            proxy = {"http_proxy": aptcache.bridge_url(aptcache.ensure(client, tag("apt-cache")))}
        note(name)
        _build(client, name, proxy)


def prune(client: docker.DockerClient) -> None:
    """Removes lab images of outdated recipes."""
    current = {tag(name) for name in ("rootfs", *PARENT)}
    for image in client.images.list(filters={"label": LABEL}):
        for old in set(image.tags) - current:
            with suppress(APIError):  # a container still uses it
                client.images.remove(old)


def _digest(name: str) -> str:
    if name == "rootfs":
        return SUITE
    recipe = hashlib.sha256(_digest(PARENT[name]).encode())
    directory = IMAGES / name
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            recipe.update(f"{path.relative_to(directory)}\0{path.stat().st_mode & 0o111:o}\0".encode())
            recipe.update(path.read_bytes())
    return recipe.hexdigest()[:12]


def _build(client: docker.DockerClient, name: str, proxy: dict[str, str]) -> None:
    try:
        # without a cache: the digest in the tag decides, and an old layer would hold an old package list
        once = {"rm": True, "forcerm": True, "nocache": True}
        given = {"buildargs": {"ROOTFS": tag(PARENT[name]), **proxy}, "labels": {LABEL: name}}
        client.images.build(path=str(IMAGES / name), tag=tag(name), **once, **given)
    except (BuildError, APIError) as error:
        log = getattr(error, "build_log", None) or []
        output = "".join(str(line.get("stream", "")) for line in log if isinstance(line, dict))
        last = "".join(f"\n    {line}" for line in output.strip().splitlines()[-8:])
        remedy = "check that deb.debian.org can be reached, then run the command again"
        raise OutpostError(f"the image {name} cannot be built: {error}{last}", remedy) from error


def _rootfs(client: docker.DockerClient, *, install: bool, note: Note) -> None:
    """A minimal Debian: bootstrapped here from Debian's archive, else pulled from a registry."""
    if shutil.which("mmdebstrap") is None and shutil.which("apt-get") and install:
        note("installing mmdebstrap")
        apt_install("mmdebstrap")
    repository, version = tag("rootfs").split(":")
    if shutil.which("mmdebstrap"):
        note(f"Debian {SUITE} with mmdebstrap")
        with tempfile.TemporaryDirectory(prefix="outpost-") as directory:
            archive, label = Path(directory) / "rootfs.tar", [f"LABEL {LABEL}=rootfs"]
            bootstrap(archive, "--variant=apt")
            client.api.import_image_from_file(str(archive), repository=repository, tag=version, changes=label)
        return
    note(f"pulling debian:{SUITE}")
    try:
        client.images.pull("debian", tag=SUITE).tag(repository, version)
    except DockerException:
        problem = "no Debian root file system: mmdebstrap is not installed and debian:trixie cannot be pulled"
        raise OutpostError(problem, "apt-get install mmdebstrap, or let the lab do it: --yes") from None


def bootstrap(into: Path, *options: str) -> None:
    """A Debian with nothing recommended, by mmdebstrap."""
    sources = [f"deb {MIRROR} {SUITE}{part} main" for part in ("", "-updates")]
    run(
        "mmdebstrap", "--aptopt=Apt::Install-Recommends false", *options, SUITE, str(into), *sources,
        f"deb {SECURITY} {SUITE}-security main", remedy="check that deb.debian.org can be reached, then run it again",
    )  # fmt: skip
