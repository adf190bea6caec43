//! Documents as answers: owns when the memory of one is reserved and given back.

use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content::{Damaged, Shown};

use crate::http::limits::memory::{Holder, Reservation};
use crate::http::response::problem::causes::ShowError;
use crate::http::response::{answer, offload};
use crate::http::state::HttpState;

/// Answers with what `show` makes of the document. `working` was reserved when the document was read or written; from here on
/// the document counts among the answers, until it is sent.
///
/// # Errors
/// [`ShowError`].
pub(super) async fn document(
    state: &HttpState,
    (holder, working): (Holder, Reservation),
    (status, document): (StatusCode, RawDocumentBuf),
    show: impl FnOnce(RawDocumentBuf) -> Result<Shown<'static>, Damaged> + Send + 'static,
) -> Result<Response, ShowError> {
    let bytes = document.as_bytes().len();
    let shown = offload::run(bytes, move || (show(document), working));
    let (shown, working) = shown.await?;
    let shown = shown?;
    let sending = state.memory.send(holder, bytes).await?;
    drop(working);
    Ok(answer::shown(status, shown, sending))
}
