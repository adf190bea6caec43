//! Erasing a user while a move of the same user is at each of its steps, with srie on a separate cluster.

use super::clusters;
use crate::erasing_while_moving::all_hold;
use crate::world::Backend;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_erased_while_moving_does_not_come_back_from_the_other_cluster() {
    let clusters = tokio::sync::Mutex::new(clusters().await);
    all_hold(Backend::Mongo, async || {
        clusters.lock().await.world("appName=erasing").await
    })
    .await;
}
