//! Documents as answers: owns when the memory of one is reserved and given back.

use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content::{Damaged, Shown};

use crate::http::limits::budget::{Holder, Reservation};
use crate::http::limits::concurrency::Permit;
use crate::http::response::problem::causes::{NoMemory, ShowError};
use crate::http::response::{answer, offload};
use crate::http::state::HttpState;

/// The longest answer that nothing is reserved for: the sockets take it at once.
const SMALL_BYTES: usize = 16 * 1024;

/// What a request holds while it works on a document.
#[derive(Debug)]
pub(super) struct Working {
    /// On whose behalf.
    pub(super) holder: Holder,
    /// The memory.
    pub(super) held: Reservation,
    /// The permit of a public request.
    pub(super) permit: Option<Permit>,
}

/// Answers with what `show` makes of the document. Its memory was reserved when the document was read or written; from here on
/// the document counts among the answers, until it is sent.
///
/// # Errors
/// [`ShowError`].
pub(super) async fn document(
    state: &HttpState,
    Working {
        holder,
        held,
        permit,
    }: Working,
    (status, document): (StatusCode, RawDocumentBuf),
    show: impl FnOnce(RawDocumentBuf) -> Result<Shown<'static>, Damaged> + Send + 'static,
) -> Result<Response, ShowError> {
    let bytes = document.as_bytes().len();
    let shown = offload::run(bytes, move || (show(document), held));
    let (shown, held) = shown.await?;
    let shown = shown?;
    drop(permit);
    // The text is written while it is sent: what is in memory is the document.
    let sending = reserved(state, holder, (shown.length_bytes(), bytes)).await?;
    drop(held);
    Ok(answer::shown(status, shown, sending))
}

/// The memory of `held_bytes` that an answer of `text_bytes` keeps until it is sent; none for a small one.
///
/// # Errors
/// [`NoMemory`].
pub(super) async fn reserved(
    state: &HttpState,
    holder: Holder,
    (text_bytes, held_bytes): (usize, usize),
) -> Result<Option<Reservation>, NoMemory> {
    match text_bytes {
        ..=SMALL_BYTES => Ok(None),
        _ => state.memory.send(holder, held_bytes).await.map(Some),
    }
}
