//! The external scaler that KEDA calls (`externalscaler.ExternalScaler`), made of the signals of the pools. One trigger of a `ScaledObject`
//! is one value of one pool.
//!
//! KEDA keeps what it has while a call fails, so whatever is not known is an error here and never a number. Left out: choosing which
//! replica goes. KEDA can't be told, so a replica that is to be removed drains itself (docs/src/keda.md).

use super::error::ApiError;
use super::service::Service;
use super::signals::WAIT_MAX;
use futures::Stream;
use muster_core::view_doc::{PoolSignalDoc, SignalsDoc};
use muster_proto::channel::bearer_of;
use muster_proto::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use muster_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Largest request, bytes: Kubernetes keeps a whole object below 1.5 MiB.
const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Targets beyond this say nothing any more, and would not fit the integers of older versions.
const TARGET_MAX: f64 = 1e9;
/// A stream that has nothing to say for so long, because nobody knows the signals, ends: another member may know them. Sooner it stays, as
/// KEDA waits longer after each stream that failed, up to a minute.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to hear them.
const RETRY: Duration = Duration::from_secs(1);

/// What a trigger follows of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Workers that are wanted.
    Desired,
    /// GPUs (CPUs) that are granted or waited for, over those there are.
    Load,
    /// Task indices that wait.
    Waiting,
}

impl Value {
    const ALL: [Self; 3] = [Self::Desired, Self::Load, Self::Waiting];

    fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Load => "load",
            Self::Waiting => "waiting",
        }
    }
}

/// One trigger, as its metadata has it.
#[derive(Debug, Clone, PartialEq)]
struct Trigger {
    pool: String,
    value: Value,
    target: f64,
}

impl Trigger {
    /// Other keys belong to KEDA (`scalerAddress`, `enableTLS` and what later versions add), so unknown ones are none of ours.
    fn read(metadata: &HashMap<String, String>) -> Result<Self, ApiError> {
        let text = |key: &str| metadata.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let bad = |message: String| Err(ApiError::BadRequest(message));
        let Some(pool) = text("pool") else {
            return bad("the trigger's metadata has no `pool`".to_owned());
        };
        let named = text("value").unwrap_or(Value::Desired.as_str());
        let Some(value) = Value::ALL.into_iter().find(|value| value.as_str() == named) else {
            return bad(format!("`value` is {named:?}: it is desired, load or waiting"));
        };
        let target = match text("target").map_or(Ok(1.0), str::parse::<f64>) {
            Ok(target) if target > 0.0 && target <= TARGET_MAX => target,
            _ => return bad(format!("`target` is no number above 0 and up to {TARGET_MAX}")),
        };
        Ok(Self { pool: pool.to_owned(), value, target })
    }

    fn metric(&self) -> String {
        format!("muster-{}-{}", self.pool, self.value.as_str())
    }

    /// A pool from which workers are wanted stays awake whatever the trigger follows: nothing may wait for what works to be ended.
    fn is_active(&self, signal: &PoolSignalDoc) -> bool {
        let waits = self.value != Value::Desired && signal.use_ratio.waiting > 0;
        signal.desired > 0 || waits
    }

    fn spec(&self) -> GetMetricSpecResponse {
        let spec = MetricSpec {
            metric_name: self.metric(),
            target_size: self.target.ceil() as i64,
            target_size_float: self.target,
        };
        GetMetricSpecResponse { metric_specs: vec![spec] }
    }

    fn measured(&self, signal: &PoolSignalDoc) -> f64 {
        match self.value {
            Value::Desired => f64::from(signal.desired),
            Value::Waiting => signal.use_ratio.waiting as f64,
            // Nothing is there to be loaded. The first replica comes by `IsActive`; until it has joined the target itself asks for neither
            // more nor fewer.
            Value::Load => {
                signal.use_ratio.load.unwrap_or(if self.is_active(signal) { self.target } else { 0.0 })
            }
        }
    }
}

/// The signal of a pool. `configured`: those of which one is to be expected.
fn signal_of<'a>(
    signals: &'a SignalsDoc,
    pool: &str,
    configured: BTreeSet<String>,
) -> Result<&'a PoolSignalDoc, ApiError> {
    if let Some(signal) = signals.pools.iter().find(|signal| signal.pool == pool) {
        return Ok(signal);
    }
    if configured.contains(pool) {
        return Err(ApiError::Unreckoned);
    }
    let mut known = configured;
    known.extend(signals.pools.iter().map(|signal| signal.pool.clone()));
    Err(ApiError::NoPool { name: pool.to_owned(), known: known.into_iter().collect() })
}

/// The service. It checks tokens itself: KEDA sends none in a header.
#[derive(Clone)]
pub struct Keda(Service);

impl Keda {
    /// Ready to be added to a server.
    #[must_use]
    pub fn server(service: Service) -> ExternalScalerServer<Self> {
        ExternalScalerServer::new(Self(service)).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Lets in whoever shows a user's token: in the header, else as `token`, else as `tokenFromEnv`, of which KEDA sends the variable's
    /// value.
    fn admit(&self, header: Option<&str>, of: Option<&ScaledObjectRef>) -> Result<Trigger, Status> {
        let text = |key: &str| of.and_then(|of| of.scaler_metadata.get(key)).map(|token| token.trim());
        let token = header.or_else(|| text("token")).or_else(|| text("tokenFromEnv"));
        self.0.gate.user_token(token.filter(|token| !token.is_empty()))?;
        let of = of.ok_or_else(|| ApiError::BadRequest("the call names no scaled object".to_owned()))?;
        Ok(Trigger::read(&of.scaler_metadata)?)
    }

    fn configured(&self) -> BTreeSet<String> {
        self.0.forward.read(|state| state.fleet().pools.keys().cloned().collect())
    }

    async fn signal(&self, trigger: &Trigger) -> Result<PoolSignalDoc, ApiError> {
        let signals = self.0.signals(None, Duration::ZERO).await?;
        signal_of(&signals, &trigger.pool, self.configured()).cloned()
    }

    /// A pool that is configured has a target before anything is reckoned of it.
    async fn spec(&self, trigger: &Trigger) -> Result<GetMetricSpecResponse, ApiError> {
        if !self.configured().contains(&trigger.pool) {
            self.signal(trigger).await?;
        }
        Ok(trigger.spec())
    }

    /// Says whether the pool is active, and again whenever that changes. Over a change of the leader nothing is said.
    async fn follow(self, trigger: Trigger, sink: mpsc::Sender<Result<IsActiveResponse, Status>>) {
        let (mut after, mut said, mut deaf) = (None, None, None);
        loop {
            let asked = self.0.signals(after, WAIT_MAX);
            let answer = tokio::select! {
                answer = asked => answer,
                () = sink.closed() => return,
            };
            let active = answer.and_then(|signals| {
                after = Some((signals.term, signals.version));
                signal_of(&signals, &trigger.pool, self.configured()).map(|signal| trigger.is_active(signal))
            });
            match active {
                Ok(active) => {
                    deaf = None;
                    if said != Some(active)
                        && sink.send(Ok(IsActiveResponse { result: active })).await.is_err()
                    {
                        return;
                    }
                    said = Some(active);
                }
                Err(error)
                    if error.passes()
                        && deaf.get_or_insert_with(Instant::now).elapsed() < STREAM_PATIENCE =>
                {
                    sleep(RETRY).await;
                }
                Err(error) => {
                    let _ = sink.send(Err(error.into())).await;
                    return;
                }
            }
        }
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Keda {
    async fn is_active(&self, call: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let trigger = self.admit(bearer_of(&call), Some(call.get_ref()))?;
        let result = trigger.is_active(&self.signal(&trigger).await?);
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Streamed<IsActiveResponse>;

    async fn stream_is_active(
        &self,
        call: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let trigger = self.admit(bearer_of(&call), Some(call.get_ref()))?;
        // A pool that is not there is said at once, not by a stream that ends.
        self.signal(&trigger).await?;
        let (sink, said) = mpsc::channel(1);
        tokio::spawn(self.clone().follow(trigger, sink));
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn get_metric_spec(
        &self,
        call: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let trigger = self.admit(bearer_of(&call), Some(call.get_ref()))?;
        Ok(Response::new(self.spec(&trigger).await?))
    }

    async fn get_metrics(
        &self,
        call: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let trigger = self.admit(bearer_of(&call), call.get_ref().scaled_object_ref.as_ref())?;
        // Some versions put the trigger's number before the name: `s0-muster-…`.
        let (asked, metric_name) = (&call.get_ref().metric_name, trigger.metric());
        if !asked.is_empty() && !asked.ends_with(&metric_name) {
            let message = format!("this trigger has the metric {metric_name:?}, and not {asked:?}");
            return Err(ApiError::BadRequest(message).into());
        }
        let value = trigger.measured(&self.signal(&trigger).await?);
        let value = MetricValue { metric_name, metric_value: value.ceil() as i64, metric_value_float: value };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    type StreamMetricSpecStream = Streamed<GetMetricSpecResponse>;

    /// The target is the trigger's own, so the first message is the last one; a stream that ended would be opened again and again.
    async fn stream_metric_spec(
        &self,
        call: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let trigger = self.admit(bearer_of(&call), Some(call.get_ref()))?;
        let spec = self.spec(&trigger).await?;
        let (sink, said) = mpsc::channel(1);
        tokio::spawn(async move {
            let _ = sink.send(Ok(spec)).await;
            sink.closed().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::UseDoc;

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn trigger(value: Value, target: f64) -> Trigger {
        Trigger { pool: "spot".into(), value, target }
    }

    fn signal(desired: u32, waiting: u64, load: Option<f64>) -> PoolSignalDoc {
        let use_ratio = UseDoc { waiting, load, ..UseDoc::default() };
        PoolSignalDoc { pool: "spot".into(), desired, use_ratio, ..PoolSignalDoc::default() }
    }

    #[test]
    fn a_trigger_is_a_pool_a_value_and_a_target() {
        let read = |pairs: &[(&str, &str)]| Trigger::read(&metadata(pairs)).map_err(|e| e.to_string());
        assert_eq!(read(&[("pool", "spot"), ("scalerAddress", "x:1")]), Ok(trigger(Value::Desired, 1.0)));
        assert_eq!(
            read(&[("pool", " spot "), ("value", "load"), ("target", "0.8")]),
            Ok(trigger(Value::Load, 0.8))
        );
        for (pairs, wrong) in [
            (&[("value", "load")][..], "no `pool`"),
            (&[("pool", " ")], "no `pool`"),
            (&[("pool", "spot"), ("value", "cpu")], "\"cpu\""),
            (&[("pool", "spot"), ("target", "0")], "`target`"),
            (&[("pool", "spot"), ("target", "NaN")], "`target`"),
            (&[("pool", "spot"), ("target", "inf")], "`target`"),
            (&[("pool", "spot"), ("target", "two")], "`target`"),
        ] {
            let error = read(pairs).expect_err("refused");
            assert!(error.contains(wrong), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn older_versions_read_whole_numbers_that_ask_for_no_less() {
        let spec =
            MetricSpec { metric_name: "muster-spot-load".into(), target_size: 1, target_size_float: 0.8 };
        assert_eq!(trigger(Value::Load, 0.8).spec(), GetMetricSpecResponse { metric_specs: vec![spec] });
    }

    #[test]
    fn values_are_those_of_the_signal() {
        let full = signal(4, 7, Some(1.25));
        let of = |value, signal: &PoolSignalDoc| {
            let trigger = trigger(value, 0.8);
            (trigger.measured(signal), trigger.is_active(signal))
        };
        assert_eq!(of(Value::Desired, &full), (4.0, true));
        assert_eq!(of(Value::Waiting, &full), (7.0, true));
        assert_eq!(of(Value::Load, &full), (1.25, true));
        // Nothing is there yet, and something is wanted.
        assert_eq!(of(Value::Load, &signal(1, 1, None)), (0.8, true));
        // Nothing is wanted.
        for value in Value::ALL {
            assert_eq!(of(value, &signal(0, 0, None)), (0.0, false));
        }
        // It works, and nothing waits: it is not to be put to sleep.
        assert_eq!(of(Value::Waiting, &signal(2, 0, Some(1.0))), (0.0, true));
        // What waits here is not bought for (a gang that does not fit): who follows what is wanted sleeps.
        assert_eq!(of(Value::Desired, &signal(0, 3, None)), (0.0, false));
    }

    #[test]
    fn a_pool_that_is_configured_and_not_reckoned_is_no_unknown_one() {
        let signals = SignalsDoc { pools: vec![signal(1, 0, None)], ..SignalsDoc::default() };
        let configured = || BTreeSet::from(["h100".to_owned()]);
        assert_eq!(signal_of(&signals, "spot", configured()).expect("known"), &signals.pools[0]);
        let error = signal_of(&signals, "h100", configured()).expect_err("not yet");
        assert_eq!(Status::from(error).code(), tonic::Code::Unavailable);
        let error = Status::from(signal_of(&signals, "h200", configured()).expect_err("unknown"));
        assert_eq!(error.code(), tonic::Code::NotFound);
        assert_eq!(error.message(), "no pool \"h200\"; there is h100, spot");
    }
}
