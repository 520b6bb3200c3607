//! Stub: replaced by the real link.
#![allow(missing_docs)]
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use crate::message::Message;
use std::sync::Arc;
use tidegate_protocol::id::{ConnectionId, SessionId};
use tidegate_protocol::session::record::Record;
#[derive(Debug, Default)]
pub struct App {}
impl App { pub fn new(_config: &crate::config::Config) -> Result<Self, crate::config::SettingError> { Ok(Self {}) } }
#[derive(Debug)]
pub struct Side {}
pub fn relays(hub: &Hub) -> bool { hub.config.app.is_some() }
pub async fn open(_hub: &Arc<Hub>, _id: SessionId, _record: &mut Record<Message>) -> Result<Option<Box<Side>>, std::io::Error> { Ok(None) }
pub fn attach(_hub: &Arc<Hub>, _cell: &Arc<Cell>, _inner: &mut Inner, _side: Box<Side>) {}
pub fn bind(_hub: &Arc<Hub>, _cell: &Arc<Cell>, _inner: &mut Inner, _resumed: bool) {}
pub fn unbind(_hub: &Arc<Hub>, _cell: &Arc<Cell>, _inner: &mut Inner) {}
pub fn settle(_hub: &Arc<Hub>, _cell: &Arc<Cell>, _inner: &mut Inner) -> bool { false }
pub fn wake(_inner: &Inner) {}
pub fn client_bye(_inner: &mut Inner, _code: u16, _reason: String) {}
pub fn reset(_hub: &Arc<Hub>, _conn: ConnectionId, _replaces: SessionId, _why: &'static str) {}
