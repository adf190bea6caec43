//! The laws of [`Store`] as a suite that every backend runs: one async function for each law, named as
//! a sentence, which panics where the law is broken.
//!
//! Each law works in a collection that is called like itself, so subjects may share a database as long as it was empty.
//! A law may make indexes by [`Store::prepare`], and never relies on a layout that it did not prepare itself. It never
//! sleeps and never asks which backend it runs on.
//!
//! A backend's test binary calls [`conformance_suite!`](crate::conformance_suite) once:
//!
//! ```
//! use std::sync::Arc;
//!
//! use tierkeep_core::db::Role;
//! use tierkeep_testkit::conformance::Subject;
//! use tierkeep_testkit::{ManualClock, MemoryStore};
//!
//! async fn memory() -> Subject {
//!     let clock = Arc::new(ManualClock::default());
//!     let store = MemoryStore::new(Role::RaseenTempUser, "memory", clock);
//!     Subject { store: Arc::new(store), guard: Box::new(()) }
//! }
//!
//! tierkeep_testkit::conformance_suite!(memory);
//! ```

mod claims;
mod finding;
mod fixture;
mod inserting;
mod paging;
mod putting;
mod racing;
mod removing;
mod sections;
mod server;
mod writing;

use std::any::Any;
use std::sync::Arc;

use tierkeep_core::store::Store;

pub use claims::*;
pub use finding::*;
pub use inserting::*;
pub use paging::*;
pub use putting::*;
pub use racing::*;
pub use removing::*;
pub use sections::*;
pub use server::*;
pub use writing::*;

/// A store to run one law on.
#[derive(Debug)]
pub struct Subject {
    /// Opened for `raseen_temp_user`, over a database in which the law's collection does not exist yet.
    pub store: Arc<dyn Store>,
    /// Dropped after the law has run: keeps alive what the store needs.
    pub guard: Box<dyn Any + Send>,
}

/// Makes one `#[tokio::test]` of each law of the suite. `$setup` is the path of an
/// `async fn() -> tierkeep_testkit::conformance::Subject`; it is called once for each test.
#[macro_export]
macro_rules! conformance_suite {
    ($setup:path) => {
        $crate::conformance_suite! { @laws $setup =>
            a_server_names_itself_the_same_way_each_time
            preparing_twice_changes_nothing
            preparing_a_smaller_layout_drops_nothing
            preparing_adds_what_is_missing
            prepared_indexes_are_listed_and_none_deletes_by_age
            prepared_collections_are_listed_and_none_endangers_documents
            what_stores_wrote_has_no_damage
            due_is_what_was_staged_at_or_before_the_time
            what_was_never_staged_is_never_due
            neither_entries_nor_tombstones_are_due
            ids_are_found_and_unknown_ones_are_not
            many_ids_are_found_at_once
            users_are_found_whatever_their_id_or_state
            equal_fields_are_found
            the_newest_come_first
            what_has_no_backup_is_found
            a_head_holds_at_least_what_tierkeep_reads
            a_sized_head_knows_the_size_of_the_whole
            claims_are_what_each_copy_says_of_itself
            a_place_is_where_its_document_stands
            what_was_acknowledged_is_read_back
            a_linearizable_read_of_nothing_is_empty
            all_documents_come_in_the_order_of_their_ids
            a_page_begins_after_its_cursor
            a_cursor_outlives_its_document
            tiny_pages_reach_every_document_once
            due_pages_go_from_the_oldest_to_the_youngest
            unstaged_pages_reach_every_document_once
            a_page_ends_with_the_document_that_reaches_its_bytes
            a_page_holds_at_least_one_document
            a_missing_collection_is_empty
            a_count_equals_what_pages_through
            hostile_documents_survive_an_insert
            hostile_documents_survive_one_batch
            foreign_documents_survive_an_insert
            an_existing_document_is_left_alone_and_reported
            a_document_twice_in_one_batch_is_stored_once
            a_clash_on_another_key_keeps_no_other_out
            documents_of_one_batch_clash_with_each_other
            an_existing_id_comes_before_a_clash
            a_document_beyond_16_mib_is_rejected_alone
            outcomes_are_in_the_order_of_the_documents
            what_is_appended_ends_with_the_first_that_is_not_stored
            of_racing_appends_no_place_is_left_out
            nothing_inserted_has_no_outcome
            a_dropped_insert_may_be_repeated
            a_dropped_append_leaves_a_beginning_of_its_batch
            hostile_documents_survive_a_put
            hostile_documents_survive_a_put_over_older_ones
            a_put_leaves_nothing_of_the_older_document
            a_put_replaces_only_lower_versions
            tombstones_yield_to_higher_versions_only
            what_has_no_user_is_replaced
            versions_of_other_types_are_left_alone
            the_highest_version_of_one_batch_stays
            a_mixed_batch_settles_each_for_itself
            a_put_that_clashes_keeps_no_other_out
            a_put_frees_the_unique_fields_it_replaces
            putting_twice_is_putting_once
            a_section_is_set_and_nothing_else
            a_new_section_joins_at_the_end
            hostile_sections_are_set_as_they_are
            a_section_leaves_hostile_neighbours_as_they_are
            a_section_is_removed
            a_repeated_operation_changes_nothing
            a_document_remembers_its_last_eight_operations
            the_first_operation_makes_the_ring
            the_time_of_a_change_is_the_servers
            a_document_never_outgrows_its_limit
            a_guard_comes_before_the_limit
            a_write_creates_nothing
            a_live_guard_holds_for_live_documents_only
            an_entry_guard_holds_for_its_own_attempt_only
            a_tombstone_guard_holds_for_its_version_only
            an_older_guard_holds_for_lower_versions_only
            a_whole_guard_sees_every_byte
            hostile_documents_are_replaced_as_wholes
            a_document_of_a_newer_form_is_left_alone
            a_foreign_document_is_replaced_in_place
            a_fields_guard_compares_fields
            a_confirmed_entry_is_live_and_staged_now
            an_admitted_entry_is_staged_when_it_is_said
            a_replacement_leaves_nothing_behind
            a_removed_document_is_answered_and_gone
            a_write_is_seen_by_every_query
            a_write_that_clashes_is_rejected
            a_delete_takes_only_live_documents_of_its_version
            fences_do_not_mix
            a_large_batch_is_deleted_at_once
            a_delete_takes_whole_documents_only_as_they_are
            a_large_batch_of_whole_documents_is_deleted_at_once
            an_amendment_touches_only_what_matches
            an_amendment_that_changes_nothing_matches
            an_amendment_reaches_into_objects
            an_amendment_makes_the_fields_it_sets
            null_also_matches_what_is_missing
            an_amendment_is_seen_by_every_query
            hostile_documents_survive_an_amendment
            of_writes_to_one_version_one_applies
            of_writes_in_one_window_as_many_apply_as_it_is_wide
            an_operation_sent_many_times_applies_once
            of_inserts_of_one_id_one_is_stored
            of_inserts_that_clash_one_is_stored
            of_entries_over_a_tombstone_one_applies
            a_removal_and_a_write_exclude_each_other
            versions_never_fall_under_racing_puts
            versions_never_fall_under_racing_replacements
            of_amendments_of_one_state_one_matches
            readers_see_whole_documents_while_others_write
        }
    };
    (@laws $setup:path => $($law:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $law() {
            let subject: $crate::conformance::Subject = $setup().await;
            $crate::conformance::$law(&subject.store).await;
            drop(subject.store);
            drop(subject.guard);
        }
    )*};
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use tierkeep_core::db::Role;
    use tierkeep_core::store::Store;

    use super::Subject;
    use crate::{ManualClock, MemoryStore};

    async fn memory() -> Subject {
        let clock = Arc::new(ManualClock::default());
        let store = MemoryStore::new(Role::RaseenTempUser, "memory", clock);
        store.hello().await.unwrap();
        Subject {
            store: Arc::new(store),
            guard: Box::new(()),
        }
    }

    crate::conformance_suite!(memory);

    #[test]
    fn every_law_is_in_the_suite() {
        let list = include_str!("conformance.rs");
        let modules = [
            include_str!("conformance/finding.rs"),
            include_str!("conformance/inserting.rs"),
            include_str!("conformance/paging.rs"),
            include_str!("conformance/putting.rs"),
            include_str!("conformance/racing.rs"),
            include_str!("conformance/removing.rs"),
            include_str!("conformance/sections.rs"),
            include_str!("conformance/server.rs"),
            include_str!("conformance/writing.rs"),
            // Bytes change below a store, which no law of the suite can do.
            include_str!("../../sqlite/tests/main/damage.rs"),
        ];
        let mut laws = 0;
        for line in modules.iter().flat_map(|module| module.lines()) {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name = rest.split('(').next().unwrap();
                assert!(
                    list.lines().any(|l| l.trim() == name),
                    "{name} is not in the list"
                );
                laws += 1;
            }
        }
        assert!(laws > 60, "only {laws} laws were found");
    }

    /// The laws that a text names: an L and a number.
    fn laws(text: &str) -> BTreeSet<u32> {
        text.split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter_map(|word| word.strip_prefix('L')?.parse().ok())
            .collect()
    }

    #[test]
    fn every_law_of_the_store_is_cited_by_a_test_that_checks_it() {
        let stated = laws(include_str!("../../core/src/store/mod.rs"));
        let cited: BTreeSet<u32> = [
            include_str!("conformance/finding.rs"),
            include_str!("conformance/inserting.rs"),
            include_str!("conformance/paging.rs"),
            include_str!("conformance/putting.rs"),
            include_str!("conformance/racing.rs"),
            include_str!("conformance/removing.rs"),
            include_str!("conformance/sections.rs"),
            include_str!("conformance/server.rs"),
            include_str!("conformance/writing.rs"),
            // Bytes change below a store, which no law of the suite can do.
            include_str!("../../sqlite/tests/main/damage.rs"),
        ]
        .into_iter()
        // The head of a file says which laws it is about; only a test's own words count.
        .flat_map(|file| file.lines().filter(|line| line.starts_with("/// ")))
        .flat_map(laws)
        .collect();
        assert!(!stated.is_empty());
        assert_eq!(stated, cited);
        let numbers: Vec<u32> = (1..=u32::try_from(stated.len()).unwrap()).collect();
        assert_eq!(stated.into_iter().collect::<Vec<_>>(), numbers);
    }
}
