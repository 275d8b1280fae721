//! An axum service that publishes what it is sent. It serves from the first moment on, and connects to the broker beside that, again
//! and again: `POST /messages` answers 202 when the broker has the message, and 503 with the reason otherwise.
//!
//! `cargo run -p amqp-tokio --example axum_service -- [ADDRESS]`, on the broker of `AMQP_URL`, or else on this machine's;
//! `curl --data Hello http://127.0.0.1:3000/messages`.

use std::env;
use std::error::Error;
use std::time::Duration;

use amqp_tokio::{Channel, Message};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::{signal, time};

/// The channel to publish on, or why there is none.
type Broker = Result<Channel, String>;

const QUEUE: &str = "messages";

async fn publish(State(broker): State<watch::Receiver<Broker>>, body: Bytes) -> (StatusCode, String) {
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    // A handle of its own: nothing is waited for while the shared one is borrowed.
    let channel = match broker.borrow().clone() {
        Ok(channel) => channel,
        Err(why) => return unavailable(why),
    };
    let message = Message::new(body).persistent();
    match channel.default_exchange().publish(message, QUEUE).await {
        Ok(()) => (StatusCode::ACCEPTED, String::new()),
        Err(error) => unavailable(error.to_string()),
    }
}

async fn open(url: &str) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let channel = amqp_tokio::connect(url).await?.channel().await?;
    channel.declare_queue(QUEUE).durable(true).await?;
    Ok(channel)
}

/// Connects, and connects again a second after the channel or the connection was lost.
async fn keep_connected(url: String, broker: watch::Sender<Broker>) {
    loop {
        let why = match open(&url).await {
            Ok(channel) => {
                drop(broker.send_replace(Ok(channel.clone())));
                println!("connected");
                channel.closed().await.to_string()
            }
            Err(error) => error.to_string(),
        };
        drop(broker.send_replace(Err(why.clone())));
        println!("not connected: {why}");
        time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);

    let (sender, broker) = watch::channel(Err("not connected yet".to_owned()));
    let connecting = tokio::spawn(keep_connected(url, sender));
    let router = Router::new()
        .route("/messages", post(publish))
        .with_state(broker.clone());
    let ctrl_c = async { drop(signal::ctrl_c().await) };
    axum::serve(listener, router)
        .with_graceful_shutdown(ctrl_c)
        .await?;

    // No request is under way any more.
    connecting.abort();
    let broker = broker.borrow().clone();
    if let Ok(channel) = broker {
        println!("{}", channel.connection().close().await.reason);
    }
    Ok(())
}
