//! A scan whose next page is read while one is worked on. For pages of few bytes: two of them are held.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::legacy::SourceError;
use tierkeep_core::legacy::source::Pages;
use tokio::task::JoinSet;

use crate::ImportError;

type Page = Result<Option<Vec<RawDocumentBuf>>, SourceError>;

/// The pages of a scan.
pub(crate) struct Ahead {
    /// One at most; given up when this is dropped.
    on_its_way: JoinSet<(Box<dyn Pages>, Page)>,
}

impl Ahead {
    /// Begins to read.
    pub(crate) fn of(pages: Box<dyn Pages>) -> Self {
        let mut ahead = Self {
            on_its_way: JoinSet::new(),
        };
        ahead.send_for(pages);
        ahead
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, ImportError> {
        let Some(read) = self.on_its_way.join_next().await else {
            return Ok(None);
        };
        let (pages, page) = read.map_err(|_| ImportError::BrokenOff)?;
        let page = page?;
        if page.is_some() {
            self.send_for(pages);
        }
        Ok(page)
    }

    fn send_for(&mut self, mut pages: Box<dyn Pages>) {
        self.on_its_way.spawn(async move {
            let page = pages.next().await;
            (pages, page)
        });
    }
}
