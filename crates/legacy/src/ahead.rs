//! A scan that is read, made something of, and worked on, each at the same time as the others. For pages of few bytes:
//! five of them are held.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::legacy::SourceError;
use tierkeep_core::legacy::source::Pages;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ImportError;

type Page<T> = Result<Option<T>, SourceError>;

/// The pages of a scan.
pub(crate) struct Ahead<T> {
    made: mpsc::Receiver<Page<T>>,
    /// Given up when this is dropped.
    _at_work: JoinSet<()>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Begins to read; `make` says what a page becomes.
    pub(crate) fn of(
        mut pages: Box<dyn Pages>,
        make: impl Fn(&[RawDocumentBuf]) -> T + Send + 'static,
    ) -> Self {
        let (to_make, mut read) = mpsc::channel::<Page<Vec<RawDocumentBuf>>>(1);
        let (to_use, made) = mpsc::channel(1);
        let mut at_work = JoinSet::new();
        at_work.spawn(async move {
            loop {
                let page = pages.next().await;
                let more = matches!(page, Ok(Some(_)));
                if to_make.send(page).await.is_err() || !more {
                    break;
                }
            }
        });
        at_work.spawn(async move {
            while let Some(page) = read.recv().await {
                let made = page.map(|page| page.map(|page| make(&page)));
                if to_use.send(made).await.is_err() {
                    break;
                }
            }
        });
        Self {
            made,
            _at_work: at_work,
        }
    }

    /// What the next page becomes; `None` after the last, after which it is not asked again.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, ImportError> {
        match self.made.recv().await {
            Some(page) => Ok(page?),
            None => Err(ImportError::BrokenOff),
        }
    }
}
