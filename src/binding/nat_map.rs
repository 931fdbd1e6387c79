//! `NativeNatMapper`: a function of the program that says where the addresses are reached that servers name.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use napi::Env;
use napi_derive::napi;

use super::arguments::thrown;
use super::connection::next_id;
use crate::connection::nat_map::Mapper;
use crate::runtime::completion::EventSink;
use crate::runtime::{Environment, Output};

/// A function `natMap` as the core knows it. Its events are `ask`, with addresses (`host:port`) to be answered, and
/// `unused`, when the last connection that asked it is gone.
#[napi]
pub struct NativeNatMapper {
    id: u32,
    events: EventSink,
    /// Held by the configurations of its connections, so that its end is that of the last of them.
    mapper: Mutex<Weak<Mapper>>,
}

#[napi]
impl NativeNatMapper {
    /// Makes connections that are opened with this share among each other, and with no others.
    #[napi(constructor)]
    pub fn new(env: Env) -> napi::Result<Self> {
        let events = Environment::of(&env)?.events();
        Ok(Self { id: next_id(), events, mapper: Mutex::default() })
    }

    /// Names this object in events.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether a connection may still ask.
    #[napi(getter)]
    pub fn in_use(&self) -> bool {
        self.held().strong_count() > 0
    }

    /// Says where addresses are reached: JSON, by address `null` (where it is), `{ host, port }`, or how the function
    /// failed.
    #[napi]
    pub fn answer(&self, env: Env, answers: String) -> napi::Result<()> {
        // Nobody waits for it once the last connection is gone.
        let mapper = self.held().upgrade();
        mapper.map_or(Ok(()), |mapper| mapper.answer(&answers)).map_err(|error| thrown(&env, &error))
    }
}

impl NativeNatMapper {
    fn held(&self) -> std::sync::MutexGuard<'_, Weak<Mapper>> {
        self.mapper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a configuration holds.
    pub(super) fn mapper(&self) -> Arc<Mapper> {
        let mut held = self.held();
        held.upgrade().unwrap_or_else(|| {
            let (id, asking, ending) = (self.id, self.events.clone(), self.events.clone());
            let ask = move |addresses: Vec<String>| {
                asking.emit(id, "ask", Output::List(addresses.into_iter().map(Output::text).collect()));
            };
            let unused = move || ending.emit(id, "unused", Output::Undefined);
            let mapper = Arc::new(Mapper::new(id, Box::new(ask), Box::new(unused)));
            *held = Arc::downgrade(&mapper);
            mapper
        })
    }
}
