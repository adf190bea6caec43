//! Laws of [`Fields::Claims`](tierkeep_core::store::Fields::Claims): L7, L8, L10.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::{DateTime, doc, rawdoc};
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::store::{CLAIMS_INDEX, Find, IndexLayout, Query, Store};

use super::fixture::Bench;
use crate::documents::native_user;

/// The claims of a document are its own, by the index over them and without it, in the order of `_id`: of the types that
/// they have, and none where they are missing, of another type, or an array.
pub async fn claims_are_what_each_copy_says_of_itself(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "claims_are_what_each_copy_says_of_itself").await;
    let digest = "d".repeat(64);
    let mut documents: Vec<RawDocumentBuf> = (1..=6)
        .map(|n| {
            native_user(n, n.into())
                .set_meta("digest", digest.as_str())
                .build()
        })
        .collect();
    documents.extend([
        native_user(7, 1).build(),
        rawdoc! { "_id": 7 },
        rawdoc! { "_id": ObjectId::from_bytes([1; 12]), "metadata": 1 },
        rawdoc! { "_id": "int32", "metadata": { "version": 3, "digest": 5 } },
        rawdoc! { "_id": "double", "metadata": { "version": 3.0, "digest": digest.as_str() } },
        rawdoc! { "_id": "large", "metadata": { "version": i64::MAX, "digest": "" } },
    ]);
    bench.given(&documents).await;
    claims_are_read_as_stored(&bench).await;
    let mut layout = bench.layout(false);
    for collection in &mut layout.collections {
        collection.indexes.push(IndexLayout::over(&CLAIMS_INDEX));
    }
    bench.prepare(&layout).await;
    claims_are_read_as_stored(&bench).await;
    // An array gives a document several entries in an index, none of which is what it holds.
    let versions: RawArrayBuf = [1_i64, 2].into_iter().collect();
    let metadata = rawdoc! { "version": 1_i64, "digest": digest.as_str() };
    let of_metadata: RawArrayBuf = [metadata.clone(), metadata].into_iter().collect();
    bench
        .given(&[
            rawdoc! { "_id": "a", "metadata": { "version": versions, "digest": digest.as_str() } },
            rawdoc! { "_id": "b", "metadata": of_metadata },
            rawdoc! { "_id": "c", "metadata": { "version": 1_i64, "digest": RawArrayBuf::new() } },
        ])
        .await;
    claims_are_read_as_stored(&bench).await;
}

async fn claims_are_read_as_stored(bench: &Bench) {
    let claimed = |document: &RawDocumentBuf| {
        let digest = Digest::claimed_by(document);
        (document::id(document), document::version(document), digest)
    };
    let ids = |documents: &[RawDocumentBuf]| documents.iter().map(|it| document::id(it)).collect();
    let whole = bench.find(Find::new(Query::All)).await;
    let expected: Vec<_> = whole.iter().map(claimed).collect();
    let queries = [Query::All, Query::Ids(ids(&whole)), Query::Equal(doc! {})];
    for query in queries {
        for limit in [1, 3, 1_000] {
            let find = Find::new(query.clone()).claims().limit(limit);
            let pages = bench.pages(find).await.concat();
            let found: Vec<_> = pages.iter().map(claimed).collect();
            assert_eq!(found, expected, "{query:?} by {limit}");
        }
    }
    let staged = Find::new(Query::Staged(DateTime::from_millis(i64::MAX)));
    let places = bench.find(staged.clone()).await;
    let expected: Vec<_> = places.iter().map(claimed).collect();
    let found = bench.pages(staged.claims().limit(2)).await.concat();
    assert_eq!(found.iter().map(claimed).collect::<Vec<_>>(), expected);
}
