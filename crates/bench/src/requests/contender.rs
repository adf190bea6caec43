//! The services that are compared, each a separate process with the same documents in a separate database, because
//! tierkeep has to examine documents again that another program has written.

use std::process::Stdio;

use anyhow::{Context, Result};
use tierkeep_core::db::Role;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::place::Place;
use crate::service::{Github, Service};
use crate::{Bench, program};

/// The service on FastAPI.
const FASTAPI: &str = include_str!("service.py");

/// Which one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The release binary.
    Tierkeep,
    /// axum and the driver, with nothing but the check of the token.
    Bare,
    /// FastAPI with PyMongo's async client, one worker.
    Fastapi,
}

impl Kind {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tierkeep => "tierkeep",
            Self::Bare => "bare axum with the driver",
            Self::Fastapi => "FastAPI with PyMongo Async",
        }
    }
}

/// One that runs; killed when dropped.
#[derive(Debug)]
pub struct Contender {
    pub kind: Kind,
    /// The process that serves.
    pub process: u32,
    url: String,
    /// What runs for as long as this is kept: one of the two.
    _service: Option<Service>,
    _child: Option<Child>,
}

impl Contender {
    /// Where its section is.
    pub fn section(&self) -> String {
        format!("{}/v1/user/scan_cache", self.url)
    }

    /// Starts all that can be had here.
    pub async fn start_all(bench: &Bench, place: &Place, github: &Github) -> Result<Vec<Self>> {
        let mut environment = bench.environment_of(place);
        environment.push(("GITHUB_API_URL".into(), github.url.clone()));
        let service = Service::start(bench, &environment).await?;
        let mut all = vec![Self {
            kind: Kind::Tierkeep,
            url: service.url.clone(),
            process: service.process_id()?,
            _service: Some(service),
            _child: None,
        }];
        let mut bare = Command::new(std::env::current_exe()?);
        bare.args([super::bare::COMMAND, &url_of(place, Role::RaseenMainUser)?]);
        all.push(Self::start(Kind::Bare, bare).await?);
        if let Some(python) = &bench.arguments.python {
            let mut fastapi = Command::new(python);
            let url = url_of(place, Role::SrieMainUser)?;
            fastapi.args(["-c", FASTAPI, &url, program::SECRET]);
            all.push(Self::start(Kind::Fastapi, fastapi).await?);
        }
        Ok(all)
    }

    /// Starts one that says on its standard output where it listens.
    async fn start(kind: Kind, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", kind.name()))?;
        let output = child.stdout.take().context("it says where it listens")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let address = line.with_context(|| format!("{} ended before it listened", kind.name()))?;
        Ok(Self {
            kind,
            url: format!("http://{address}"),
            process: child.id().context("it has not been waited for")?,
            _service: None,
            _child: Some(child),
        })
    }
}

fn url_of(place: &Place, role: Role) -> Result<String> {
    let environment = place.environment().into_iter();
    let mut urls = environment.filter(|(name, _)| name == role.url_variable());
    let (_, url) = urls.next().context("the databases are on the server")?;
    Ok(url)
}
