"""The image keeps its rules, runs on a root without a shell, and its steps run on Debian's packages."""

from __future__ import annotations

import copy
import os
import pathlib
import shutil
import subprocess

import bootstrap
import container
import kubernetes
import pytest
import sandbox

MEMORY = 640 << 20


@pytest.fixture(scope="module")
def text() -> str:
    return container.FILE.read_text()


@pytest.fixture(scope="module")
def variables() -> set[str]:
    return kubernetes.known_variables()


def test_the_image_keeps_its_rules(text: str, variables: set[str]) -> None:
    assert container.findings(container.Image(text), variables) == []


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("USER 10001:10001", "USER tierkeep"),
        ("USER 10001:10001", "USER 0"),
        ("USER 10001:10001\n", ""),
        ('ENTRYPOINT ["/usr/local/bin/tierkeep"]', "ENTRYPOINT tierkeep"),
        ('ENTRYPOINT ["/usr/local/bin/tierkeep"]', 'ENTRYPOINT ["tierkeep"]'),
        ('CMD ["serve"]', "CMD serve"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGINT"),
        ("STOPSIGNAL SIGTERM", "HEALTHCHECK CMD curl localhost:8080"),
        ("VOLUME /var/lib/tierkeep", "VOLUME /data"),
        ("TIERKEEP_SPOOL_DIR=/var/lib/tierkeep/spool", "TIERKEEP_SPOOL_DIR=/spool"),
        ("TIERKEEP_LOG=json", "HOME=/root"),
        ("TIERKEEP_LISTEN=0.0.0.0:8080", "TIERKEEP_LISTEN=127.0.0.1:8080"),
        ("EXPOSE 8080", "EXPOSE 80"),
        ("debian:bookworm-slim", "debian:latest"),
    ],
)
def test_a_broken_rule_is_found(text: str, variables: set[str], line: str, instead: str) -> None:
    assert line in text
    planted = text.replace(line, instead)
    assert container.findings(container.Image(planted), variables)


def test_secrets_and_builds_stay_out_of_the_context() -> None:
    ignored = container.IGNORE.read_text()
    assert container.ignored(ignored) == []
    assert container.ignored(ignored.replace(".env\n", "")) == [".env"]


def test_the_compose_file_fits_the_image(text: str, variables: set[str]) -> None:
    image, compose = container.Image(text), container.compose()
    assert container.of_compose(compose, image, variables) == []
    for name, value in [
        ("volumes", ["tierkeep:/data"]),
        ("ports", ["8080:8080"]),
        ("environment", {"SECRET": "x"}),
        ("read_only", False),
        ("depends_on", {"mongo": {"condition": "service_started"}}),
    ]:
        planted = copy.deepcopy(compose)
        planted["services"]["tierkeep"][name] = value
        assert container.of_compose(planted, image, variables), name


def started(image: container.Image, root: pathlib.Path, state: pathlib.Path) -> sandbox.Container:
    """What a runtime starts of the image, with the embedded databases on its volume."""
    os.chown(state, image.user, image.user)
    return sandbox.Container(
        command=image.command,
        environment=image.environment | {"TIERKEEP_DATA_DIR": f"{container.WRITES_TO}/data"},
        user=image.user,
        volumes=[sandbox.Volume(image.last("VOLUME"), state)],
        root=root,
        memory=MEMORY,
    )


def serves_and_stops(told: sandbox.Container) -> None:
    """Starts it, asks it, and stops it with SIGTERM to its first process."""
    with sandbox.running(told) as running:
        assert "ok" in running.until(8080, "/health/ready", 200)
        status = pathlib.Path(f"/proc/{running.first}/status").read_text()
        assert "NSpid:" in status and status.partition("NSpid:")[2].splitlines()[0].split()[-1] == "1"
        # No terminal, and none of the variables that a login sets.
        assert pathlib.Path(f"/proc/{running.first}/stat").read_text().rpartition(")")[2].split()[4] == "0"
        given = pathlib.Path(f"/proc/{running.first}/environ").read_text()
        assert not {"HOME", "USER", "PATH", "TERM"} & {it.partition("=")[0] for it in given.split("\0")}
        assert running.stop(90) == 0


def test_the_image_runs_without_a_shell_a_home_and_a_writable_root(text: str, tmp_path: pathlib.Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    serves_and_stops(started(container.Image(text), sandbox.root(tmp_path / "image"), state))


@pytest.mark.full
def test_the_steps_of_the_image_run_on_debian(text: str, tmp_path: pathlib.Path) -> None:
    """All but those that compile: they need the image of the Rust toolchain."""
    image = container.Image(text)
    suite = image.bases[-1].rpartition(":")[2].removesuffix("-slim")
    root = bootstrap.root(suite, tmp_path / "root")
    try:
        for step in image.steps:
            if step["instruction"] == "RUN":
                bootstrap.run(root, step["value"])
            elif step["instruction"] == "COPY":
                source, target = step["value"].split()[1:]
                assert source.endswith("/release/tierkeep")
                assert target == "/usr/local/bin/tierkeep"
                sandbox.put_binary(root)
        assert (root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100_000
        volume = root / container.WRITES_TO.lstrip("/")
        assert (volume.stat().st_uid, volume.stat().st_mode & 0o777) == (image.user, 0o700)
        assert not list((root / "var/lib/apt/lists").iterdir())
        ran = subprocess.run(
            ["chroot", root, "/usr/bin/ldd", "/usr/local/bin/tierkeep"], capture_output=True, text=True
        )
        assert "not found" not in ran.stdout and ran.returncode == 0, ran.stdout
        state = tmp_path / "state"
        state.mkdir()
        serves_and_stops(started(image, root, state))
        # A step that cannot be run is a failure.
        with pytest.raises(AssertionError):
            bootstrap.run(root, "apt-get install --yes no-such-package")
    finally:
        shutil.rmtree(root)
