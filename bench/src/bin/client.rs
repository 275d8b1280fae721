//! One client in one case, to be measured from within: see `amqp_bench::clients`.

fn main() -> anyhow::Result<()> {
    amqp_bench::clients::main(|| 0)
}
