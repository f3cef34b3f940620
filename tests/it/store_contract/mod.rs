//! The contract of each intent, tested on every engine; and the files of sled at rest.

mod accounts;
mod at_rest;
mod backups;
mod bounds;
mod damage;
pub(crate) mod fixture;
mod import;
mod kill;
mod outbox;
mod passwords;
mod rights;
mod sessions;
mod whole;

use std::sync::Arc;

use doorward::store::memory::MemoryStore;
use doorward::store::sled::SledStore;

/// Makes each promise, `group: promise …`, a test of each engine.
macro_rules! promises {
    ($($group:ident: $($promise:ident)*;)*) => {
        mod memory {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $promise() {
                    let store = super::MemoryStore::new(super::Arc::default());
                    super::$group::$promise(super::Arc::new(store)).await;
                }
            )*)*
        }
        mod sled {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $promise() {
                    let dir = tempfile::tempdir().unwrap();
                    let store = super::SledStore::open(dir.path(), super::Arc::default()).unwrap();
                    super::$group::$promise(super::Arc::new(store)).await;
                }
            )*)*
        }
    };
}

promises! {
    accounts:
        accounts_are_found_by_every_name_once_they_are_active
        accounts_are_listed_by_record_id
        a_name_or_address_that_is_taken_is_told
        ids_are_never_written_over
        disabling_ends_sessions_and_tokens_and_keeps_the_rest
        administrators_change_what_they_name;
    passwords:
        pending_accounts_reserve_nothing_and_the_first_password_wins
        a_one_time_token_is_used_once
        a_one_time_token_has_its_purpose_and_its_time
        an_address_changes_once_by_a_token_of_its_own
        a_password_by_token_ends_what_was_before
        a_password_change_is_refused_after_any_other_change;
    sessions:
        a_session_is_written_under_the_generation_that_was_read
        fifty_refreshes_at_once_give_one_successor
        a_refresh_token_that_comes_again_after_the_grace_ends_the_session
        a_refresh_of_anything_not_live_is_unknown
        sessions_end_one_by_one_and_together
        uses_of_cookies_move_the_end_and_void_nothing
        networks_are_remembered_with_the_mail_that_tells_of_them;
    rights:
        api_keys_are_guarded_listed_and_revoked
        api_keys_change_under_the_generation_that_was_read
        uses_of_keys_are_noted_beside_their_records
        a_membership_changes_from_the_level_that_was_seen
        memberships_are_listed_both_ways
        a_level_that_others_set_hinders_no_slow_write;
    bounds:
        keys_at_once_stay_within_their_bound
        one_login_too_many_ends_the_session_that_was_not_used
        one_token_too_many_voids_the_one_that_ends_first
        pending_accounts_of_strangers_are_so_many
        memberships_are_looked_up_and_paged;
    import:
        people_are_nobody_until_all_of_them_count
        people_who_are_taken_back_leave_nothing
        what_stands_in_the_way_of_an_import_is_told
        people_with_very_many_memberships_come_whole;
    outbox:
        mails_wait_in_the_order_of_time
        a_mail_is_there_exactly_if_its_token_is;
    whole:
        a_purge_takes_what_has_expired_and_no_more
        what_was_made_while_the_clock_was_ahead_counts_for_nothing
        every_change_of_rights_voids_what_was_cached
        every_end_of_logins_voids_what_was_cached
        counters_are_kept_beside_the_records
        an_engine_says_that_it_can_write;
}
