"""Disk images: what mkosi is given, and which disks are never written to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from outpost.cli.app import run
from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.machines import image, seed
from outpost.office import load
from outpost.onhost.observe import expected

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa maria@site"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("image") / "site"
    os.environ["OUTPOST_IDENTITY"], before = (
        str(place.parent / "identity.txt"),
        os.environ.get("OUTPOST_IDENTITY"),
    )
    try:
        assert run(["new", str(place), "--domain=po.example.com", "--organisation=Site", "--postmaster=maria",
                    "--wan=192.0.2.0/28", "--ssh-user=admin", f"--key={KEY}", "--proxy=http://192.0.2.9:3142"]) == 0  # fmt: skip
        yield place
    finally:
        del os.environ["OUTPOST_IDENTITY"]
        if before is not None:
            os.environ["OUTPOST_IDENTITY"] = before


def recipe(place: Path, host: str = "") -> dict[str, str]:
    office = load(place, uncertified=True)
    brings = seed.seed(office, office.host(host), pairs.new_ssh_key()) if host else None
    return image.recipe(office, image.BOOTS, brings)


def test_packages_come_from_the_offices_archive_by_its_proxy(place: Path) -> None:
    document = tomlkit.parse((place / "office.toml").read_text())
    document["archive"]["mirror"] = "http://mirror.example.net/debian"
    (place / "office.toml").write_text(tomlkit.dumps(document))
    files = recipe(place)
    assert "ProxyUrl=http://192.0.2.9:3142\n" in files["mkosi.conf"]
    for sources in (
        "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources",
        "mkosi.skeleton/etc/apt/sources.list.d/trixie.sources",
    ):
        assert "URIs: http://mirror.example.net/debian\n" in files[sources]
        assert "deb.debian.org/debian\n" not in files[sources]


def test_an_image_has_what_every_host_has_and_no_role(place: Path) -> None:
    names = image.packages(load(place, uncertified=True), secrets_file.read(place))
    assert {"apt", "unbound", "chrony", "nftables", "cloud-init", "linux-image-amd64"} <= set(names)
    assert not {"postfix", "dovecot-imapd", "knot", "nginx"} & set(names)


def test_an_image_for_all_holds_no_secret_and_one_for_a_host_its_seed_alone(place: Path) -> None:
    assert not [path for path, text in recipe(place).items() if "PRIVATE KEY" in text]
    with_seed = recipe(place, "ns1")
    assert [path for path, text in with_seed.items() if "PRIVATE KEY" in text] == [
        "mkosi.extra/var/lib/cloud/seed/nocloud/user-data"
    ]
    assert recipe(place) == recipe(place), "the same office makes the same recipe"


def test_units_of_an_image_stay_as_their_packages_left_them_and_its_packages_are_debians(place: Path) -> None:
    files = recipe(place)
    assert "echo 'disable *'" in files["mkosi.postinst.chroot"], (
        "mkosi presets last, and Debian's preset enables all"
    )
    assert expected.INSTALLER in files["mkosi.finalize"]


def test_mkosi_takes_the_recipe(place: Path, tmp_path: Path) -> None:
    if shutil.which("mkosi") is None:
        pytest.skip("needs mkosi: apt-get install mkosi")
    for path, content in recipe(place).items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    done = subprocess.run(
        ["mkosi", "--directory", str(tmp_path), "summary"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "grub-signed" in done.stdout
    assert re.search(r"Sector Size: 512\b", done.stdout), "UEFI would not read the disk"


def disk(**changed: Any) -> dict[str, Any]:
    part = {"name": "sdx1", "type": "part", "size": 10**9, "mountpoints": [None]}
    return {"name": "sdx", "type": "disk", "size": 8 * 10**9, "model": "Stick", "rm": True, "mountpoints": [None], "children": [part]} | changed  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (disk(type="part"), "not a whole disk"),
        (disk(size=10**6), "has 0 MiB"),
        (disk(mountpoints=["/mnt"]), "is in use: /mnt"),
        (disk(children=[{"type": "part", "mountpoints": ["/boot", "/"]}]), "is in use: /boot, /"),
        (disk(children=[{"type": "part", "mountpoints": ["[SWAP]"]}]), "is in use"),
        (disk(children=[{"type": "part", "mountpoints": [], "children": [{"type": "lvm", "mountpoints": []}]}]), "volumes that are open"),
        (disk(children=[{"type": "crypt", "mountpoints": [None]}]), "volumes that are open"),
    ],
)  # fmt: skip
def test_a_disk_that_is_in_use_is_never_written(listed: dict[str, Any], message: str) -> None:
    with pytest.raises(OutpostError, match=message):
        image.fits(listed, Path("/dev/sdx"), 10**9)


def test_a_free_disk_is_described_before_it_is_asked_for() -> None:
    assert image.fits(disk(), Path("/dev/sdx"), 10**9) == "/dev/sdx: Stick, 8.0 GB, removable"
    assert "NOT removable" in image.fits(disk(rm=False), Path("/dev/sdx"), 10**9)


def test_a_file_is_no_disk(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, tmp_path / "nothing"):
        with pytest.raises(OutpostError):
            image.describe(path, 0)


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, device = tmp_path / "image", tmp_path / "device"
    size = 4 * 1024**2 + 17
    source.write_bytes(os.urandom(size))
    device.write_bytes(b"x" * 3 * size)
    image.write(source, device)
    assert device.read_bytes() == source.read_bytes() + b"x" * 2 * size
    with pytest.raises(OutpostError, match="No such file"):
        image.write(source, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    broken = tmp_path / "dd"
    broken.write_text(f'#!/bin/sh\n{shutil.which("dd")} "$@"; printf broken 1<>{device}\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(OutpostError, match=r"does not hold what was written.*differ"):
        image.write(source, device)


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(OutpostError, match="mkosi is not installed"):
        image.build({}, tmp_path, "po", epoch=0)
