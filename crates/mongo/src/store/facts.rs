//! What a server is, what its user may do and what a database lacks, to find out what is wrong. Only asks.

use std::sync::PoisonError;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::breaker::Reach;
use tierkeep_core::store::{IndexLayout, Layout, Result, Store as _};

use super::{Known, LIMIT, MongoStore, reply};
use crate::error::Failure;
use crate::product::{self, Product};
use crate::query;
use crate::rights::{self, MissingRight};

/// How a server is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// One server without a replica set: nothing it acknowledges is safe from its loss.
    Standalone,
    /// A replica set.
    ReplicaSet,
    /// A sharded cluster, by way of a router.
    Sharded,
}

/// What a server says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFacts {
    /// Its version, as it writes it.
    pub version: String,
    /// How it is set up.
    pub topology: Topology,
    /// What it is, where it is not MongoDB.
    pub imitator: Option<&'static str>,
}

/// What a database lacks, or has besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deviation {
    /// There is no such collection.
    NoCollection(String),
    /// A collection has no index on these fields.
    NoIndex {
        /// The collection.
        collection: String,
        /// The index.
        index: IndexLayout,
    },
    /// A collection has no validator, and should keep out what begins with this.
    NoValidator {
        /// The collection.
        collection: String,
        /// What no `user_id` in it may begin with.
        keeps_out: &'static str,
    },
    /// A collection has a unique index that tierkeep did not ask for: it can refuse documents.
    OtherUnique {
        /// The collection.
        collection: String,
        /// The index's name.
        index: String,
    },
    /// A collection has an index of a kind that refuses documents by what they hold.
    Choosy {
        /// The collection.
        collection: String,
        /// The index's name.
        index: String,
        /// Its kind, as the server calls it.
        kind: &'static str,
    },
}

impl MongoStore {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// [`StoreError`](tierkeep_core::store::StoreError) when it did not answer.
    pub async fn server_facts(&self) -> Result<ServerFacts> {
        let facts = async {
            let hello = self.send(query::hello(), LIMIT).await?;
            let build = self.send(query::build_info(), LIMIT).await?;
            let topology = match hello.get_str("setName") {
                Ok(_) => Topology::ReplicaSet,
                Err(_) if reply::is_of_router(&hello) => Topology::Sharded,
                Err(_) => Topology::Standalone,
            };
            let version = build.get_str("version").map_err(|_| Failure::corrupt())?;
            Ok(ServerFacts {
                version: version.to_owned(),
                topology,
                imitator: self.imitator(&hello, "").await?,
            })
        };
        let facts: Result<_, Failure> = facts.await;
        facts.map_err(self.at("server_facts"))
    }

    /// The product that said `hello`, where it is not MongoDB. A process that names itself is asked once.
    pub(super) async fn imitator(
        &self,
        hello: &RawDocument,
        process: &str,
    ) -> Result<Option<&'static str>, Failure> {
        if let Some(known) = self.known_as(process) {
            return Ok(known.imitator);
        }
        let build = answered(self.send(query::build_info(), LIMIT).await)?.ok();
        let build = build.as_deref();
        let places = self.sight.whereabouts();
        let hosts = places.iter().map(|it| it.place.as_str());
        let mut found = product::product(hello, build, hosts);
        if found == Product::Unclear {
            let admin = self.beside("admin");
            let asked = admin.send(query::command_line(), LIMIT).await;
            let code = match asked {
                // A code that MongoDB has given to something else.
                Err(refusal) if product::is_of_another(refusal.code) => refusal.code,
                asked => answered(asked)?.map_or_else(|refusal| refusal.code, |_| 0),
            };
            found = product::by_refusal(code, build);
        }
        let imitator = match found {
            Product::Other(name) => Some(name),
            Product::MongoDb | Product::Unclear => None,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known {
            process: process.to_owned(),
            imitator,
        });
        Ok(imitator)
    }

    fn known_as(&self, process: &str) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .clone()
            .filter(|it| it.process == process && !process.is_empty())
    }

    /// Asks which rights the user of this connection lacks, of those that a database with `layout` needs.
    ///
    /// # Errors
    /// [`StoreError`](tierkeep_core::store::StoreError) when it did not answer.
    pub async fn missing_rights(&self, layout: &Layout) -> Result<Vec<MissingRight>> {
        let asked = self.send(query::connection_status(), LIMIT).await;
        let status = asked.map_err(self.at("missing_rights"))?;
        let database = self.database.name();
        Ok(rights::missing(
            &status,
            database,
            layout,
            self.is_sharded(),
        ))
    }

    /// Compares the database with `layout`.
    ///
    /// # Errors
    /// [`StoreError`](tierkeep_core::store::StoreError) when it did not answer.
    pub async fn deviations(&self, layout: &Layout) -> Result<Vec<Deviation>> {
        let found = self.deviations_from(layout).await;
        found.map_err(self.at("deviations"))
    }

    async fn deviations_from(&self, layout: &Layout) -> Result<Vec<Deviation>, Failure> {
        let known = self.validated().await?;
        let mut deviations = Vec::new();
        for wanted in &layout.collections {
            let collection = &wanted.name;
            let Some(validated) = known.get(collection) else {
                deviations.push(Deviation::NoCollection(collection.clone()));
                continue;
            };
            if let Some(keeps_out) = wanted.keeps_out.filter(|_| !validated) {
                deviations.push(Deviation::NoValidator {
                    collection: collection.clone(),
                    keeps_out,
                });
            }
            let there = self.indexes_of(collection).await?;
            for index in &wanted.indexes {
                let served = there.iter().any(|found| reply::serves(found, index));
                if index.fields != ["_id"] && !served {
                    deviations.push(Deviation::NoIndex {
                        collection: collection.clone(),
                        index: index.clone(),
                    });
                }
            }
            for found in &there {
                let asked_for = wanted
                    .indexes
                    .iter()
                    .any(|index| reply::serves(found, index));
                let name = found.get_str("name").unwrap_or_default();
                if let Some(kind) = reply::choosy(found) {
                    deviations.push(Deviation::Choosy {
                        collection: collection.clone(),
                        index: name.to_owned(),
                        kind,
                    });
                }
                if found.get_bool("unique").unwrap_or(false) && !asked_for && name != "_id_" {
                    deviations.push(Deviation::OtherUnique {
                        collection: collection.clone(),
                        index: name.to_owned(),
                    });
                }
            }
        }
        Ok(deviations)
    }
}

/// The answer or the refusal of a server that can be reached; an error where it cannot.
fn answered(
    reply: Result<RawDocumentBuf, Failure>,
) -> Result<Result<RawDocumentBuf, Failure>, Failure> {
    match reply {
        Err(failure) if Reach::of(failure.class) != Reach::Answered => Err(failure),
        reply => Ok(reply),
    }
}
