"""What is repeated and what is not, when connections break, services wait, or too much is asked."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time

import deployment
import faults
import httpx
import pytest
from support import Connect, Service, internal, public, running

import tierkeep
from tierkeep import errors, results
from tierkeep._protocol import retry_after

QUICK = tierkeep.Retry(attempts=3, backoff_seconds=0.01)


def address(service: Service) -> str:
    return service.base.removeprefix("http://")


def test_a_write_whose_answer_is_lost_is_not_repeated(service: Service, connect: Connect) -> None:
    with faults.proxied(address(service)) as proxy:
        client = connect(f"http://{proxy.address}", credentials=internal(), retry=QUICK)
        version = client.replace_section("scan_cache", {"n": 0}).version
        proxy.cuts = 1
        with pytest.raises(tierkeep.NoAnswerError) as lost:
            client.replace_section("scan_cache", {"n": 1}, if_match=version)
        assert proxy.swallowed == 1
        assert lost.value.request_id in str(lost.value)
        # The change was made, once, and the same client continues.
        section = client.read_section("scan_cache")
        assert (section.content, section.version) == ({"n": 1}, version + 1)


@pytest.mark.parametrize("write", ["patch_section", "remove_section", "erase_user"])
def test_no_write_is_repeated_blindly(embedded: Service, connect: Connect, write: str) -> None:
    with faults.proxied(address(embedded)) as proxy:
        client = connect(f"http://{proxy.address}", credentials=internal(), retry=QUICK)
        client.replace_section("scan_cache", {"n": 0})
        proxy.cuts = 1
        arguments: tuple[object, ...] = {
            "patch_section": ("scan_cache", {}),
            "remove_section": ("scan_cache",),
            "erase_user": (),
        }[write]
        with pytest.raises(tierkeep.NoAnswerError):
            getattr(client, write)(*arguments)
        assert (proxy.swallowed, proxy.cuts) == (1, 0)


def test_a_read_whose_answer_is_lost_is_repeated(service: Service, connect: Connect) -> None:
    with faults.proxied(address(service)) as proxy:
        client = connect(f"http://{proxy.address}", credentials=internal(), retry=QUICK)
        client.replace_section("scan_cache", {"n": 0})
        proxy.cuts = 2
        assert client.read_section("scan_cache").content == {"n": 0}
        assert proxy.swallowed == 2
        proxy.cuts = 3
        with pytest.raises(tierkeep.NoAnswerError):
            client.read_section("scan_cache")


def test_a_service_that_cannot_be_reached_has_changed_nothing(connect: Connect) -> None:
    client = connect("http://127.0.0.1:9", credentials=internal(), retry=QUICK)
    with pytest.raises(tierkeep.NotSentError):
        client.replace_section("scan_cache", {})


def test_an_answer_that_takes_too_long_is_given_up(connect: Connect) -> None:
    silent = faults.Silent()
    try:
        client = connect(f"http://{silent.address}", credentials=internal(), timeout=0.1, retry=QUICK)
        with pytest.raises(tierkeep.NoAnswerError):
            client.replace_section("scan_cache", {})
        assert silent.connections == 1
        with pytest.raises(tierkeep.NoAnswerError):
            client.read_section("scan_cache")
        assert silent.connections == 4
    finally:
        silent.close()


@pytest.mark.parametrize("backend", ["sqlite", "mongodb"])
def test_too_many_requests_wait_as_long_as_they_are_told(github: str, connect: Connect, backend: str) -> None:
    with running(backend, github, TIERKEEP_PUBLIC_RATE="1", TIERKEEP_PUBLIC_BURST="2") as service:
        client = connect(service.base, credentials=public(), retry=tierkeep.Retry(attempts=1))
        for number in range(2):
            client.replace_section("scan_cache", {"n": number})
        with pytest.raises(errors.RateLimitedError) as refused:
            client.replace_section("scan_cache", {"n": 2})
        assert refused.value.retry_after == 1
        began = time.monotonic()
        patient = client.with_options(retry=tierkeep.Retry(attempts=5))
        assert patient.replace_section("scan_cache", {"n": 3}).version == 3
        assert time.monotonic() - began < 10
        hasty = client.with_options(retry=tierkeep.Retry(attempts=5, budget_seconds=0.5))

        def too_often() -> None:
            for number in range(3):
                hasty.replace_section("scan_cache", {"n": number})

        with pytest.raises(errors.RateLimitedError):
            too_often()


def test_a_service_that_is_asked_to_wait_for_longer_than_the_budget_is_not_waited_for(
    embedded: Service, connect: Connect
) -> None:
    away = tierkeep.Credentials.internal(jwt=deployment.token(deployment.subject()), github_token="away")
    client = connect(embedded.base, credentials=away, retry=tierkeep.Retry(budget_seconds=1.0))
    began = time.monotonic()
    with pytest.raises(errors.IdentityUnavailableError) as refused:
        client.read_user()
    assert refused.value.retry_after == 5
    assert time.monotonic() - began < 4


def problem(code: str, seconds: float | None = None) -> errors.ServiceError:
    told = errors.Problem("about:blank", "t", 503, "d", code)
    return errors.of_code(code)(told, request_id="r", retry_after=seconds)


@pytest.mark.parametrize(
    ("error", "reads", "writes"),
    [
        (errors.NotSentError("m", "r"), True, True),
        (problem("rate_limited"), True, True),
        (problem("identity_unavailable"), True, True),
        (problem("database_unavailable"), True, False),
        (errors.NoAnswerError("m", "r"), True, False),
        (errors.UnexpectedAnswerError("m", 502, "r"), True, False),
        (errors.UnexpectedAnswerError("m", 504, "r"), True, False),
        (errors.UnexpectedAnswerError("m", 500, "r"), False, False),
        (problem("outcome_unknown"), False, False),
        (problem("internal"), False, False),
        (problem("conflict"), False, False),
        (problem("version_mismatch"), False, False),
        (problem("request_timeout"), False, False),
    ],
)
def test_only_what_is_safe_is_repeated(error: tierkeep.TierkeepError, reads: bool, writes: bool) -> None:
    retry = tierkeep.Retry()
    assert (retry.pause(error, 1, 0.0, reads=True, chance=0.5) is not None) == reads
    assert (retry.pause(error, 1, 0.0, reads=False, chance=0.5) is not None) == writes


def test_waits_follow_retry_after_and_double_without() -> None:
    retry = tierkeep.Retry(attempts=4, budget_seconds=10, backoff_seconds=1)
    told, untold = problem("rate_limited", 4.0), problem("rate_limited")
    assert retry.pause(told, 1, 0.0, reads=False, chance=0.5) == 4.5
    assert retry.pause(told, 1, 6.0, reads=False, chance=0.5) is None
    assert [retry.pause(untold, attempt, 0.0, reads=False, chance=1.0) for attempt in (1, 2, 3, 4)] == [1, 2, 4, None]


def test_retry_after_may_be_a_date() -> None:
    now = datetime.datetime(2026, 1, 2, 3, 4, 0, tzinfo=datetime.UTC)
    assert retry_after("Fri, 02 Jan 2026 03:04:07 GMT", now) == 7
    assert retry_after("Fri, 02 Jan 2026 03:03:07 GMT", now) == 0
    assert retry_after("-1", now) is None


def test_a_thousand_calls_at_once_are_answered_on_one_client(service: Service) -> None:
    async def all_of_them() -> set[int]:
        async with tierkeep.AsyncClient(service.base, credentials=internal()) as client:
            await client.replace_section("scan_cache", {"n": 0})
            answers = await asyncio.gather(*(client.read_section("scan_cache") for _ in range(1000)))
            assert all(answer.content == {"n": 0} for answer in answers)
            changed = await asyncio.gather(
                *(
                    client.with_options(credentials=internal()).replace_section("scan_cache", {"n": number})
                    for number in range(100)
                )
            )
            return {one.version for one in changed}

    assert asyncio.run(all_of_them()) == {1}


def test_a_thousand_calls_of_many_threads_are_answered_on_one_client(service: Service) -> None:
    with tierkeep.Client(service.base, credentials=internal()) as client:
        client.replace_section("scan_cache", {"n": 0})
        answers: list[object] = []

        def some() -> None:
            answers.extend(client.read_section("scan_cache").content["n"] for _ in range(20))

        threads = [threading.Thread(target=some) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [0] * 1000


def test_a_cancelled_call_leaves_the_client_usable(service: Service) -> None:
    async def cancel_many() -> None:
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(limits=limits) as http:
            client = tierkeep.AsyncClient(service.base, credentials=internal(), http=http)
            await client.replace_section("scan_cache", {"n": 0})
            # Three times: which moment a cancellation strikes is up to the machine.
            for turns in list(range(30)) * 3:
                calls = [asyncio.create_task(client.read_section("scan_cache")) for _ in range(20)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                done = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(it, asyncio.CancelledError | results.Section) for it in done)
            assert (await client.read_section("scan_cache")).content == {"n": 0}

    asyncio.run(cancel_many())


def test_a_cancelled_wait_ends_at_once(embedded: Service) -> None:
    async def cancelled() -> float:
        away = tierkeep.Credentials.internal(jwt=deployment.token(deployment.subject()), github_token="away")
        async with tierkeep.AsyncClient(embedded.base, credentials=away) as client:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.read_user(), 0.5)
            return time.monotonic() - began

    assert asyncio.run(cancelled()) < 4
