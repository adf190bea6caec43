"""Property 3 of the mission's testing strategy: after 24 hours in temp, data is in main and srie, and only then gone."""

import datetime
import json
from typing import Any

from callers import contents, sections
from deployment import Deployment, Service, internal, subject
from hypothesis import given
from hypothesis import strategies as st

RETENTION = datetime.timedelta(hours=24)
# Nothing within a minute of the retention: writing and moving take time.
ages = st.timedeltas(datetime.timedelta(0), RETENTION - datetime.timedelta(minutes=1)) | st.timedeltas(
    RETENTION + datetime.timedelta(minutes=1), datetime.timedelta(days=400)
)
users = st.lists(st.tuples(ages, st.dictionaries(sections, contents, min_size=1)), min_size=1, max_size=4)


@given(users=users)
def test_what_is_due_moves_with_its_backup_and_nothing_else_does(
    deployed: Deployment,
    service: Service,
    users: list[tuple[datetime.timedelta, dict[str, Any]]],
) -> None:
    stored = []
    for age, document in users:
        client = service.client(internal(one := subject()))
        for section, content in document.items():
            client.replace_section(section, content)
        deployed.shift(f"internal_{one}", age)
        stored.append((f"internal_{one}", client, age, document))

    due = sum(age >= RETENTION for _, _, age, _ in stored)
    run = deployed.json("migrate", "run")
    assert (run["due"], run["moved"], run["failed"], run["deferred"]) == (due, due, 0, 0)

    for user_id, client, age, document in stored:
        moved = age >= RETENTION
        expected = {"raseen_main_user", "srie_main_user"} if moved else {"raseen_temp_user"}
        assert deployed.where(user_id) == expected
        for section, content in document.items():
            assert json.dumps(client.read_section(section).content) == json.dumps(content)
        if moved:
            main = deployed.copy("raseen_main_user", user_id)
            assert main and main == deployed.copy("srie_main_user", user_id)
            assert main["data_location"] == "main"
            assert main["metadata"]["backup_status"] == "completed"
