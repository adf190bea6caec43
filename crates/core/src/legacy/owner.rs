//! Whose a legacy document is. Nothing is guessed: an e-mail address's local part identifies no user, and an internal
//! user without an id of its own is found among the accounts or refused.

use bson::raw::RawDocument;

use super::fields::Fields;
use crate::document::field;
use crate::hr::InvalidHrId;
use crate::user::{InvalidUser, UserId, UserType};

/// Whose a document is, as far as the document itself says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// This user's.
    User(UserId),
    /// An internal user's without an id: the accounts have to say whose.
    Join(Join),
}

/// What an account is looked up by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Join {
    /// The GitHub user name, in lower case.
    pub login: Option<String>,
    /// The e-mail address, in lower case.
    pub email: Option<String>,
    /// 24 hex digits that stand in the place of the user's id, in lower case.
    pub id: Option<String>,
    /// The id or user name as it was found, to be quoted.
    pub found: String,
}

/// Why a document is imported as nothing. Each quotes the id or user name that was found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The id or user name that it has is none.
    #[error("{0}")]
    Invalid(#[from] InvalidUser),
    /// It identifies no user.
    #[error("it does not name a user: username, github_username and userId are missing{}", also(.0))]
    Nobody(String),
    /// No account has its user name or e-mail address.
    #[error("internal user {0:?} has no authenticated_user_id, and no account in users matches")]
    NoAccount(String),
    /// Several accounts do.
    #[error(
        "internal user {found:?} has no authenticated_user_id, and {accounts} accounts in users match"
    )]
    SeveralAccounts {
        /// The id or user name.
        found: String,
        /// How many.
        accounts: usize,
    },
    /// Its `_id` is none that an HR record can have.
    #[error("{0}")]
    HrId(#[from] InvalidHrId),
    /// It is a user's document among HR records.
    #[error("a document of the user {0:?} is in a collection of HR records")]
    UserAmongHr(String),
    /// A field would have to be kept under a name that another has.
    #[error("the HR record {id:?} has {key} already: rename it")]
    KeptTwice {
        /// Which record.
        id: String,
        /// The name.
        key: String,
    },
    /// The HR record would be larger than a document may be.
    #[error("the HR record {0:?} would be larger than 16 MiB minus 4 KiB")]
    HrTooLarge(String),
    /// It is an HR record among users' documents.
    #[error("an HR record of {0:?} is in a collection of user documents")]
    HrAmongUsers(String),
    /// It has no date, and its `_id` has none either.
    #[error("the document of {0:?} has no date")]
    NoDate(String),
    /// The date that says which of a user's documents is newer cannot be read.
    #[error("{field} of the document of {user:?} is {value}, which cannot be read as a date")]
    UnreadableDate {
        /// The id or user name that was found.
        user: String,
        /// The field.
        field: &'static str,
        /// What it holds, in Extended JSON, cut off where it is long.
        value: String,
    },
    /// What all of a user's documents become is too large.
    #[error("the document of {0} would be larger than 16 MiB minus 4 KiB")]
    TooLarge(UserId),
    /// The database refuses what becomes of it.
    #[error("the document of {user} was refused: {reason}")]
    Rejected {
        /// Whose.
        user: String,
        /// The database's reason.
        reason: String,
    },
}

fn also(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!(" beside the id {id:?}")
    }
}

/// Enough of what was found to recognise it by.
const QUOTED_MAX_CHARS: usize = 64;

pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_MAX_CHARS).collect()
}

/// The fields that say whose a document is.
pub const FIELDS: [&str; 9] = [
    field::USER_ID,
    field::USER_TYPE,
    "storage_location",
    "authenticated_user_id",
    "email",
    "username",
    "github_username",
    "userId",
    "role",
];

fn hex(text: &str) -> Option<String> {
    UserId::internal(text).ok()?;
    Some(text.to_ascii_lowercase())
}

/// The GitHub user name that a document has.
fn login(fields: &Fields<'_>) -> Option<String> {
    ["username", "github_username", "userId"]
        .into_iter()
        .find_map(|name| fields.text(name))
}

/// Whose a document of `collection` is.
///
/// # Errors
/// Why no user can be identified.
pub fn claim(collection: &str, fields: &Fields<'_>) -> Result<Claim, Refusal> {
    let id = fields.text(field::USER_ID);
    let login = login(fields);
    let found = id.clone().or_else(|| login.clone()).unwrap_or_default();
    if is_hr(fields) {
        return Err(Refusal::HrAmongUsers(quoted(&found)));
    }
    if let Some(id) = &id {
        match UserId::parse(id) {
            Ok(user) => return Ok(Claim::User(user)),
            Err(error @ InvalidUser::Name(_)) => return Err(error.into()),
            Err(InvalidUser::Prefix(_) | InvalidUser::Subject(_)) => {}
        }
    }
    if let Some(subject) = fields.text("authenticated_user_id").and_then(|it| hex(&it)) {
        return Ok(Claim::User(UserId::internal(&subject)?));
    }
    match user_type(collection, fields, id.as_deref()) {
        UserType::Internal => Ok(Claim::Join(Join {
            login: login.map(|it| it.to_ascii_lowercase()),
            email: fields.text("email").map(|it| it.to_lowercase()),
            id: id.as_deref().and_then(hex),
            found: quoted(&found),
        })),
        UserType::External => match login {
            Some(login) => Ok(Claim::User(UserId::external(&login)?)),
            None => Err(Refusal::Nobody(quoted(&found))),
        },
    }
}

/// The user to which an internal document's accounts lead.
///
/// # Errors
/// There is not exactly one.
pub fn joined(join: &Join, accounts: &[String]) -> Result<UserId, Refusal> {
    match accounts {
        [one] => Ok(UserId::internal(one)?),
        [] if join.found.is_empty() => Err(Refusal::NoAccount(
            join.email.as_deref().map(quoted).unwrap_or_default(),
        )),
        [] => Err(Refusal::NoAccount(join.found.clone())),
        several => Err(Refusal::SeveralAccounts {
            found: join.found.clone(),
            accounts: several.len(),
        }),
    }
}

/// An account, as far as joining needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its `_id`, 24 hex digits in lower case.
    pub id: String,
    /// Its GitHub user name, in lower case.
    pub login: Option<String>,
    /// Its e-mail address, in lower case.
    pub email: Option<String>,
}

/// Reads an account; `None` if its `_id` is not a valid internal id.
pub fn account(document: &RawDocument) -> Option<Account> {
    let fields = Fields::of(document);
    let id = hex(&fields.text(field::ID)?)?;
    Some(Account {
        id,
        login: fields
            .text("github_username")
            .map(|it| it.to_ascii_lowercase()),
        email: fields.text("email").map(|it| it.to_lowercase()),
    })
}

fn is_hr(fields: &Fields<'_>) -> bool {
    let says = |name: &str, word: &str| {
        fields
            .text(name)
            .is_some_and(|text| text.eq_ignore_ascii_case(word))
    };
    says("storage_location", "HR_COLLECTION") || says(field::USER_TYPE, "hr")
}

/// What a document without a whole id says its user is. Any sign of an internal user counts: private data must
/// never become public.
fn user_type(collection: &str, fields: &Fields<'_>, id: Option<&str>) -> UserType {
    let stored = fields
        .text("storage_location")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let named = fields
        .text(field::USER_TYPE)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let says = |user_type: UserType| {
        let word = user_type.as_str();
        named == word
            || collection.starts_with(word)
            || stored.starts_with(word)
            || id.is_some_and(|id| id.starts_with(word))
    };
    // Only accounts have addresses, and only theirs are ids of 24 hex digits.
    let of_an_account = || fields.text("email").is_some() || id.is_some_and(|id| hex(id).is_some());
    if says(UserType::Internal) || (!says(UserType::External) && of_an_account()) {
        UserType::Internal
    } else {
        UserType::External
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{doc, raw::RawDocumentBuf};
    use rstest::rstest;

    use super::*;

    const SUBJECT: &str = "507f1f77bcf86cd799439011";

    fn whose(collection: &str, document: &bson::Document) -> Result<Claim, Refusal> {
        let document = RawDocumentBuf::try_from(document).unwrap();
        claim(collection, &Fields::of(&document))
    }

    fn user(text: &str) -> Claim {
        Claim::User(UserId::parse(text).unwrap())
    }

    #[rstest]
    #[case(doc! { "user_id": "external_SRIE06", "user_type": "internal" }, "external_srie06")]
    #[case(doc! { "user_id": format!("internal_{SUBJECT}"), "user_type": "external" }, "internal_507f1f77bcf86cd799439011")]
    fn an_id_with_its_prefix_is_kept_whatever_the_user_type_says(
        #[case] document: bson::Document,
        #[case] id: &str,
    ) {
        assert_eq!(whose("fast_scan_cache", &document), Ok(user(id)));
    }

    #[rstest]
    #[case(doc! { "user_id": "ada", "email": "ada@example.org", "authenticated_user_id": SUBJECT })]
    #[case(doc! { "user_id": "srie06", "authenticated_user_id": ObjectId::parse_str(SUBJECT).unwrap() })]
    #[case(doc! { "authenticated_user_id": SUBJECT.to_uppercase(), "username": "srie06" })]
    #[case(doc! { "user_id": "internal_srie06", "authenticated_user_id": SUBJECT })]
    fn a_bare_id_beside_an_authenticated_one_is_that_internal_user(
        #[case] document: bson::Document,
    ) {
        let expected = Ok(user(&format!("internal_{SUBJECT}")));
        assert_eq!(whose("internal_scan_cache", &document), expected);
    }

    #[rstest]
    #[case("internal_scan_cache", doc! { "user_id": "srie06", "username": "Srie06" })]
    #[case("fast_scan_cache", doc! { "user_id": "srie06", "username": "Srie06", "user_type": "internal" })]
    #[case("fast_scan_cache", doc! { "user_id": "srie06", "username": "Srie06", "storage_location": "INTERNAL_DB" })]
    #[case("fast_scan_cache", doc! { "user_id": "srie06", "username": "Srie06", "email": "a@example.org" })]
    #[case("fast_scan_cache", doc! { "user_id": SUBJECT, "username": "Srie06" })]
    #[case("internal_users", doc! { "user_id": "srie06", "username": "Srie06", "user_type": "external" })]
    fn a_bare_internal_id_is_looked_up_among_the_accounts(
        #[case] collection: &str,
        #[case] document: bson::Document,
    ) {
        let Ok(Claim::Join(join)) = whose(collection, &document) else {
            panic!("{document} was given to a user")
        };
        assert_eq!(join.login.as_deref(), Some("srie06"));
        let id = document.get_str(field::USER_ID).unwrap();
        let account = SUBJECT.to_owned();
        assert!(joined(&join, std::slice::from_ref(&account)).is_ok());
        for accounts in [vec![], vec![account.clone(), account]] {
            let refusal = joined(&join, &accounts).unwrap_err().to_string();
            assert!(refusal.contains(id), "{refusal}");
        }
    }

    #[rstest]
    #[case(doc! { "user_id": "srie06", "username": "SRIE06", "userId": "x" }, "external_srie06")]
    #[case(doc! { "user_id": "srie06", "github_username": "Srie06" }, "external_srie06")]
    #[case(doc! { "userId": "srie-06" }, "external_srie-06")]
    fn a_bare_external_id_is_named_by_its_user_name(
        #[case] document: bson::Document,
        #[case] id: &str,
    ) {
        assert_eq!(whose("fast_scan_cache", &document), Ok(user(id)));
    }

    #[rstest]
    #[case(doc! { "user_id": "external_a.b" }, "a.b")]
    #[case(doc! { "username": "no body" }, "no body")]
    #[case(doc! { "user_id": "ada.l" }, "ada.l")]
    #[case(doc! { "user_id": "srie06", "storage_location": "HR_COLLECTION" }, "srie06")]
    #[case(doc! { "username": "srie06", "user_type": "hr" }, "srie06")]
    fn a_document_that_names_no_user_is_refused_and_quoted(
        #[case] document: bson::Document,
        #[case] quoted: &str,
    ) {
        let refusal = whose("fast_scan_cache", &document).unwrap_err();
        assert!(refusal.to_string().contains(quoted), "{refusal}");
    }

    #[test]
    fn an_e_mail_address_never_makes_an_id() {
        let document = doc! { "user_id": "ada", "email": "ada@example.org" };
        let Ok(Claim::Join(join)) = whose("internal_users", &document) else {
            panic!("given to a user")
        };
        assert_eq!((join.login, join.id), (None, None));
    }
}
