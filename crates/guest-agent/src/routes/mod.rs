//! Which call a request is, and whether it may be made.

mod connect;

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::agent::Agent;
use crate::http::{ApiError, Connection, Request, Response, empty, json, read_json};
use crate::identity::{Ends, InitRequest};
use crate::{files, metrics};

const TOKEN_HEADER: &str = "x-access-token";

pub async fn route(agent: Arc<Agent>, request: Request) -> Response {
    dispatch(&agent, request).await.unwrap_or_else(ApiError::into_response)
}

async fn dispatch(agent: &Agent, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/health") => return Ok(empty(StatusCode::NO_CONTENT)),
        // Says only which calls a browser may try.
        (&Method::OPTIONS, _) => return Ok(empty(StatusCode::NO_CONTENT)),
        (&Method::POST, "/init") => return init(agent, request).await,
        (_, "/files") => return files::handle(&agent.identity, token(&request), request).await,
        _ => agent.identity.authorize(token(&request).as_deref())?,
    }
    match (request.method(), path.as_str()) {
        (&Method::GET, "/metrics") => {
            let metrics = metrics::measure(&agent.cpu).map_err(ApiError::internal)?;
            Ok(json(StatusCode::OK, &metrics))
        }
        (_, "/files/archive") => files::archive(&agent.identity, request).await,
        (&Method::GET, "/envs") => Ok(json(StatusCode::OK, &agent.identity.environment())),
        (&Method::POST, "/disk/write-out") => done(agent.disk.write_out().await),
        (&Method::POST, "/disk/hold") => done(agent.disk.hold().await),
        (&Method::POST, "/disk/let-go") => done(agent.disk.let_go().await),
        (
            _,
            "/metrics" | "/envs" | "/health" | "/init" | "/disk/write-out" | "/disk/hold"
            | "/disk/let-go",
        ) => Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
        _ => Ok(connect::route(agent, request).await),
    }
}

fn done(result: std::io::Result<()>) -> Result<Response, ApiError> {
    result.map(|()| empty(StatusCode::NO_CONTENT)).map_err(ApiError::internal)
}

async fn init(agent: &Agent, request: Request) -> Result<Response, ApiError> {
    agent.identity.authorize_init(token(&request).as_deref())?;
    let connection = Connection::of(&request);
    let body: InitRequest = read_json(request.into_body()).await?;
    let ends = connection.as_ref().and_then(Connection::ends);
    let ends = ends.map(|(local, remote)| Ends::new(local, remote));
    // The caller's own connection outlives the generation that it ends.
    if let Some(connection) = connection {
        connection.join(body.generation());
    }
    let confirmation = agent.identity.init(body, ends).await?;
    Ok(json(StatusCode::OK, &confirmation))
}

fn token(request: &Request) -> Option<Vec<u8>> {
    request.headers().get(TOKEN_HEADER).map(|value| value.as_bytes().to_vec())
}
