//! A group: one (composed) component, linked, with its pool of instances. What the front door calls.

use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmtime::component::Component;
use wasmtime_wasi_http::WasiBody;

use crate::body::{ResponseBody, Rest, Signals};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::guest::{OwnerSettings, RequestId, Template};
use crate::link::{Import, LinkError, Provider, linker};
use crate::output::OutputSink;
use crate::pool::{Pool, PoolLimits};
use crate::serve::{Exchange, HandlerExport, Head, InstanceMaker};
use crate::shared::SharedInstances;

/// How often idle instances are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// An exported HTTP handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The name of the exported interface in the (composed) component.
    pub export: String,
    /// The interface's id: `wasi:http/handler@0.3…` or `wasi:http/incoming-handler@0.2…`.
    pub interface: String,
}

/// What a group is made of.
pub struct GroupSettings {
    /// Its components, in any order.
    pub owners: Vec<OwnerSettings>,
    /// Where their output goes.
    pub sink: Arc<dyn OutputSink>,
    /// Bytes of memory of one instance, all components together.
    pub memory_bytes: usize,
    /// Requests that one instance may serve at once. Only handlers of WASI 0.3 can serve more than one.
    pub concurrency: u32,
    /// Live instances.
    pub instances_max: usize,
    /// Requests that one instance may serve before it is replaced.
    pub requests_per_instance_max: u32,
    /// How long an instance may live.
    pub instance_age_max: Duration,
}

/// How long a request may wait for an instance when all are busy.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an instance may be idle before its memory is given back.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A request on its way to a guest.
pub struct Request {
    /// Head and body. The body's errors end up with the guest.
    pub http: http::Request<WasiBody>,
    /// Its identity in logs.
    pub id: RequestId,
    /// When it must be over.
    pub deadline: Instant,
    /// How long that is from when it came, for messages.
    pub allowed: Duration,
    /// Which of the group's handlers, by position.
    pub handler: usize,
    /// The component that has it, for the log.
    pub component: Arc<str>,
}

/// Why a group could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// An import is met by nothing, or cannot be defined.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The component needs something else than what it was linked with.
    #[error("cannot link the group's component")]
    Prepare {
        /// What wasmtime said.
        source: wasmtime::Error,
    },
    /// It has no such export.
    #[error("the group's component has no export `{export}` with a function `handle`")]
    NoHandler {
        /// The export's name.
        export: String,
    },
}

/// A group that can serve requests.
pub struct Group {
    instances: Instances,
}

enum Instances {
    /// A request has an instance for itself.
    Alone(Arc<Alone>),
    /// Several requests share one.
    Shared(Arc<SharedInstances>),
}

struct Alone {
    maker: InstanceMaker,
    pool: Pool,
}

impl Group {
    /// Links a component and prepares its pool. Nothing runs yet.
    ///
    /// # Errors
    /// When an import is met by nothing, or a handler is missing.
    pub fn new(
        engine: &Engine,
        component: &Component,
        imports: &[Import],
        handlers: &[Handler],
        providers: &[Arc<dyn Provider>],
        settings: GroupSettings,
    ) -> Result<Self, GroupError> {
        let names = settings.owners.iter().map(|owner| owner.component.clone()).collect::<Vec<_>>();
        let linker = linker(engine, imports, &names, providers)?;
        let pre = linker.instantiate_pre(component).map_err(|source| GroupError::Prepare { source })?;
        let handlers = handlers.iter().map(|handler| find_handler(component, handler));
        let maker = InstanceMaker {
            _engine: engine.clone(),
            pre,
            handlers: handlers.collect::<Result<_, _>>()?,
            template: Arc::new(Template { owners: settings.owners.into(), sink: settings.sink }),
            memory_bytes: settings.memory_bytes,
        };
        let limits = PoolLimits {
            instances_max: settings.instances_max,
            waiting_max: settings.instances_max.saturating_mul(settings.concurrency.max(1) as usize),
            wait_max: WAIT_MAX,
            requests_max: settings.requests_per_instance_max,
            age_max: settings.instance_age_max,
            idle_max: IDLE_MAX,
        };
        let instances = if settings.concurrency > 1 {
            Instances::Shared(Arc::new(SharedInstances::new(maker, limits, settings.concurrency)))
        } else {
            Instances::Alone(Arc::new(Alone { maker, pool: Pool::new(limits) }))
        };
        Ok(Self { instances })
    }

    /// Starts the sweeper that drops instances which have been idle for long. It ends with the group.
    pub fn start_sweeper(&self) {
        let Instances::Alone(alone) = &self.instances else { return };
        let alone: Weak<Alone> = Arc::downgrade(alone);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(SWEEP_EVERY);
            loop {
                tick.tick().await;
                let Some(alone) = alone.upgrade() else { return };
                alone.pool.drop_idle();
            }
        });
    }

    /// Makes one instance ahead of the first request and keeps it.
    ///
    /// # Errors
    /// When it cannot be made: then no request could be served either.
    pub async fn warm_up(&self, allowed: Duration) -> Result<(), Failure> {
        let Instances::Alone(alone) = &self.instances else { return Ok(()) };
        let deadline = Instant::now() + allowed;
        let (slot, idle) = alone.pool.take(deadline).await?;
        let instance = match idle {
            Some(instance) => instance,
            None => alone.maker.make(deadline).await?,
        };
        alone.pool.give_back(slot, instance);
        Ok(())
    }

    /// Serves one request. The response's body must be read or dropped; until then it holds its instance.
    ///
    /// # Errors
    /// When the guest gives no response: see [`Failure`].
    pub async fn handle(&self, request: Request) -> Result<http::Response<ResponseBody>, Failure> {
        match &self.instances {
            Instances::Alone(alone) => handle_alone(alone.clone(), request).await,
            Instances::Shared(shared) => shared.clone().handle(request).await,
        }
    }
}

async fn handle_alone(alone: Arc<Alone>, request: Request) -> Result<http::Response<ResponseBody>, Failure> {
    let (slot, idle) = alone.pool.take(request.deadline).await?;
    let unread = request.http.method() == http::Method::HEAD;
    let (head_sender, mut head) = oneshot::channel();
    let (ended_sender, ended) = oneshot::channel();
    let signals = Arc::new(Signals::default());
    let exchange = Exchange { head: Head::new(head_sender), ended, signals: signals.clone() };
    let mut run = Some(Box::pin(async move {
        let made = match idle {
            Some(instance) => Ok(instance),
            None => alone.maker.make(request.deadline).await,
        };
        match made {
            Ok(mut instance) => {
                if instance.serve(request, exchange).await.is_ok() {
                    alone.pool.give_back(slot, instance);
                }
            }
            Err(failure) => {
                let _ = exchange.head.send(Err(failure));
            }
        }
    }) as crate::body::Run);
    let response = std::future::poll_fn(|cx| {
        if let Some(running) = &mut run
            && running.as_mut().poll(cx).is_ready()
        {
            run = None;
        }
        std::pin::Pin::new(&mut head).poll(cx).map(|head| head.unwrap_or(Err(Failure::NoResponse)))
    });
    match response.await {
        Ok(response) => {
            let rest = run.map_or(Rest::Over, Rest::Reader);
            Ok(ResponseBody::of(response, rest, signals, ended_sender, unread))
        }
        Err(failure) => {
            // The handler may go on working after it has answered with an error.
            drop(ended_sender);
            if let Some(mut run) = run
                && std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await
            {
                tokio::spawn(run);
            }
            Err(failure)
        }
    }
}

fn find_handler(component: &Component, handler: &Handler) -> Result<HandlerExport, GroupError> {
    let missing = || GroupError::NoHandler { export: handler.export.clone() };
    let instance = component.get_export_index(None, &handler.export).ok_or_else(missing)?;
    let function = component.get_export_index(Some(&instance), "handle").ok_or_else(missing)?;
    Ok(if handler.interface.starts_with("wasi:http/incoming-handler@0.2") {
        HandlerExport::P2(function)
    } else {
        HandlerExport::P3(function)
    })
}
