//! Where a user's reads and writes go.

use crate::db::{DataCategory, Role, appropriate_database};
use crate::user::UserType;

/// The databases that a user's reads look in, in order.
///
/// Temp comes before main because a move writes main before it removes from temp, so this order never
/// misses a document; srie answers only while main cannot be reached.
pub fn reads(user_type: UserType) -> &'static [Role] {
    match user_type {
        UserType::Internal => &[
            Role::RaseenTempUser,
            Role::RaseenMainUser,
            Role::SrieMainUser,
        ],
        UserType::External => &[Role::ExternalUsers],
    }
}

/// The database that a user's writes go to.
pub fn writes(user_type: UserType) -> Role {
    appropriate_database(user_type, DataCategory::User)
}
