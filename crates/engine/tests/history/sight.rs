//! What the databases hold of the users of a history at one moment, and what must be true of it.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::mover::record_field;
use tierkeep_core::store::{Find, Query};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_testkit::invariants::{
    self, claimed_digests_are_true, completed_backups_exist,
    completed_records_are_in_main_and_srie, each_user_and_version_has_at_most_one_record,
    equal_versions_have_equal_digests, erased_content_never_comes_back,
    external_ids_stay_in_external_users, main_equals_srie, nothing_moves_before_its_retention,
    temp_drains, temp_never_holds_a_lower_live_version_than_main, versions_never_fall,
    what_left_temp_has_a_record, what_left_temp_is_in_main_and_srie,
    what_was_recorded_stays_recorded, with_announced,
};

use super::actors::marks;
use super::reference::Sections;
use super::stage::Stage;

#[derive(Default)]
pub struct Sight {
    pub temp: Vec<RawDocumentBuf>,
    pub main: Vec<RawDocumentBuf>,
    pub srie: Vec<RawDocumentBuf>,
    pub records: Vec<RawDocumentBuf>,
}

/// Everything that is stored of these users.
pub async fn look(stage: &Stage, ids: &[UserId]) -> Sight {
    let users: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let copies = async |role: Role| {
        let find = Find::new(Query::Users(users.clone()));
        let store = stage.store(role);
        store.find(role.users().unwrap(), &find).await.unwrap()
    };
    let audit = stage.store(Role::EvaluationAudit);
    let all = Find::new(Query::All);
    let intents = audit.find(collection::MIGRATION_INTENTS, &all).await;
    let mut records = Vec::new();
    for user in &users {
        let find = Find::new(Query::Equal(doc! { record_field::USER_ID: user }));
        let found = audit.find(collection::MIGRATION_RECORDS, &find).await;
        records.extend(found.unwrap());
    }
    let mut records = with_announced(records, &intents.unwrap());
    records.retain(|record| {
        users
            .iter()
            .any(|user| record.get_str("user_id").ok() == Some(user))
    });
    Sight {
        temp: copies(Role::RaseenTempUser).await,
        main: copies(Role::RaseenMainUser).await,
        srie: copies(Role::SrieMainUser).await,
        records,
    }
}

impl Sight {
    /// What holds at any moment, also while actors are held half-way. `fences` names the users that were erased, and
    /// the version below which their content does not count.
    pub fn holds_after(&self, before: &Self, fences: &[(&str, Version)]) -> invariants::Verdict {
        let Self {
            temp,
            main,
            srie,
            records,
        } = self;
        temp_never_holds_a_lower_live_version_than_main(temp, main, &[])?;
        equal_versions_have_equal_digests(&[temp, main, srie])?;
        claimed_digests_are_true(main)?;
        claimed_digests_are_true(srie)?;
        what_left_temp_is_in_main_and_srie(&before.temp, temp, main, srie)?;
        what_left_temp_has_a_record(&before.temp, temp, records)?;
        what_was_recorded_stays_recorded(&before.records, records)?;
        versions_never_fall(&before.main, main)?;
        versions_never_fall(&before.srie, srie)?;
        versions_never_fall(&live(&before.temp), &live(temp))?;
        completed_backups_exist(main, srie)?;
        each_user_and_version_has_at_most_one_record(records)?;
        external_ids_stay_in_external_users(temp)?;
        external_ids_stay_in_external_users(main)?;
        external_ids_stay_in_external_users(srie)?;
        let counts = |record: &&RawDocumentBuf| {
            let erased = fences.iter().any(|(user, fence)| {
                record.get_str(record_field::USER_ID).ok() == Some(*user)
                    && record.get_i64(record_field::VERSION).unwrap() < fence.get()
            });
            !erased
        };
        let counting: Vec<RawDocumentBuf> = records.iter().filter(counts).cloned().collect();
        completed_records_are_in_main_and_srie(&counting, main, srie)
    }

    /// What main and srie hold of one user: the version, where there is one, and the marks.
    pub fn copies_of(&self, id: &UserId) -> [(Option<Version>, Sections); 2] {
        [&self.main, &self.srie].map(|copies| {
            let theirs = |copy: &&RawDocumentBuf| {
                document::user_id(copy) == Some(id.as_str())
                    && document::state(copy) == Some(State::Live)
            };
            let found = copies.iter().find(theirs);
            let version = found.and_then(|copy| document::version(copy));
            (version, found.map(marks).unwrap_or_default())
        })
    }

    /// Nothing has left temp before its time.
    pub fn nothing_moved_early(
        &self,
        before: &Self,
        now: DateTime,
        retention: Duration,
    ) -> invariants::Verdict {
        nothing_moves_before_its_retention(&before.temp, &self.temp, now, retention)
    }

    /// What is true when faults have stopped, the retention has passed, and the mover has been.
    pub fn is_settled(
        &self,
        fences: &[(&str, Version)],
        now: DateTime,
        retention: Duration,
    ) -> invariants::Verdict {
        temp_drains(&self.temp, now, retention)?;
        main_equals_srie(&self.main, &self.srie)?;
        erased_content_never_comes_back(fences, &[&self.temp, &self.main, &self.srie])?;
        if let Some(left) = self.temp.first() {
            return Err(format!("temp is not empty: {left:?}"));
        }
        for record in &self.records {
            if record.get_str(record_field::STATUS).ok() != Some("completed") {
                return Err(format!("a record was not completed: {record:?}"));
            }
        }
        Ok(())
    }
}

fn live(copies: &[RawDocumentBuf]) -> Vec<RawDocumentBuf> {
    let live = |copy: &&RawDocumentBuf| document::state(copy) == Some(State::Live);
    copies.iter().filter(live).cloned().collect()
}
