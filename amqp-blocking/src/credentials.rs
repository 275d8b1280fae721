//! A provider of credentials that may wait: each call is on a thread of its own.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amqp_async::{BoxFuture, CredentialsProvider, HandlerError, ProvidedCredentials};

use crate::offload::on_thread;

type Answer = Result<ProvidedCredentials, HandlerError>;

/// A provider of credentials that may wait: a function. Each call is on a thread of its own, and there is no other one before it has
/// come back.
///
/// ```no_run
/// # fn example() -> Result<(), amqp_blocking::ConnectError> {
/// use amqp_blocking::proto::{Backoff, Credentials, RefreshPolicy};
/// use amqp_blocking::{BlockingProvider, Connector, CredentialsSource, ProvidedCredentials};
/// use std::time::Duration;
///
/// let provider = BlockingProvider::new(|| {
///     let token = std::fs::read_to_string("/run/secrets/token")?;
///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
/// });
/// let policy = RefreshPolicy::new(Backoff::new(std::process::id().into())).at(0.5);
/// let source = CredentialsSource::new(provider).policy(policy);
/// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_source(source);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BlockingProvider {
    provider: Arc<Provider>,
}

struct Provider {
    provide: Box<dyn Fn() -> Answer + Send + Sync>,
    is_running: AtomicBool,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("is_running", &self.is_running)
            .finish_non_exhaustive()
    }
}

impl BlockingProvider {
    /// Calls this function.
    #[must_use]
    pub fn new(provide: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let provider = Provider {
            provide: Box::new(provide),
            is_running: AtomicBool::new(false),
        };
        Self {
            provider: Arc::new(provider),
        }
    }
}

impl CredentialsProvider for BlockingProvider {
    fn credentials(&self) -> BoxFuture<Answer> {
        let provider = Arc::clone(&self.provider);
        Box::pin(async move {
            if provider.is_running.swap(true, Ordering::AcqRel) {
                return Err("the call before this one has not come back".into());
            }
            let runner = Arc::clone(&provider);
            let call = move || {
                // Whatever becomes of it, the next one may be asked for.
                let answer = catch_unwind(AssertUnwindSafe(|| (runner.provide)()));
                runner.is_running.store(false, Ordering::Release);
                answer.unwrap_or_else(|panic| resume_unwind(panic))
            };
            match on_thread("amqp-credentials", call).await {
                // Whoever asks deals with a panic.
                Ok(answer) => answer.unwrap_or_else(|panic| resume_unwind(panic)),
                Err(error) => {
                    provider.is_running.store(false, Ordering::Release);
                    Err(error.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_for;
    use amqp_async::CredentialsSource;
    use amqp_proto::{Credentials, ProviderError};
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(30);

    fn ask(source: &CredentialsSource, limit: Duration) -> Option<Result<String, ProviderError>> {
        let answer = wait_for(limit, source.ask())?;
        Some(answer.map(|provided| provided.credentials.user().unwrap_or_default().to_owned()))
    }

    #[test]
    fn it_answers_from_another_thread() {
        let here = thread::current().id();
        let source = CredentialsSource::new(BlockingProvider::new(move || {
            assert_ne!(thread::current().id(), here);
            Ok(Credentials::plain("ann", "pw").into())
        }));
        for _ in 0..2 {
            assert_eq!(ask(&source, LONG), Some(Ok("ann".to_owned())));
        }
    }

    #[test]
    fn failures_and_panics_are_told_and_do_not_keep_it_from_being_called_again() {
        let failing = CredentialsSource::new(BlockingProvider::new(|| Err("no route".into())));
        let panicking = CredentialsSource::new(BlockingProvider::new(|| panic!("on purpose")));
        for _ in 0..2 {
            let failed = ProviderError::Failed("no route".into());
            assert_eq!(ask(&failing, LONG), Some(Err(failed)));
            assert_eq!(ask(&panicking, LONG), Some(Err(ProviderError::Panicked)));
        }
    }

    #[test]
    fn a_call_that_does_not_come_back_is_the_only_one() {
        let (release, held) = channel::<()>();
        let (tell, told) = channel();
        let (held, tell) = (Mutex::new(held), Mutex::new(tell));
        let source = CredentialsSource::new(BlockingProvider::new(move || {
            let _ = held.lock().unwrap().recv();
            tell.lock().unwrap().send(()).unwrap();
            Ok(Credentials::plain("ann", "pw").into())
        }));
        assert_eq!(ask(&source, Duration::from_millis(10)), None);
        let Some(Err(ProviderError::Failed(words))) = ask(&source, LONG) else {
            panic!("another one was called");
        };
        assert!(words.contains("has not come back"), "{words}");
        drop(release);
        told.recv_timeout(LONG).unwrap();
        while source_is_busy(&source) {
            thread::yield_now();
        }
    }

    /// Until the thread has seen that its call is over.
    fn source_is_busy(source: &CredentialsSource) -> bool {
        match ask(source, LONG) {
            Some(Ok(_)) => false,
            Some(Err(ProviderError::Failed(_))) => true,
            other => panic!("{other:?}"),
        }
    }
}
