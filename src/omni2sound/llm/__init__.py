"""One way to ask a language model, and to remember what it answered and cost.

In:   `ChatRequest`s: texts, pictures, sounds, the form of the answer.
Out:  `ChatReply`s, each bought once; the money spent as an interval.

    prices = Prices.load()
    with CallStore.open(out / "calls.sqlite", budget_usd=Decimal(20)) as store:
        junior = StoredChat(
            OpenAIEndpoint("gemini-2.5-flash", base_url=URL, key_variable="GEMINI_API_KEY"),
            store=store,
            prices=prices,
            limits=Limits(concurrency=64, requests_per_minute=1000),
        )
        reply = await junior.ask(request)          # any number at a time
        store.spend()                              # Spend(known_usd=..., uncertain_usd=...)

Who asks depends on the protocol `ChatModel` (`id`, `ask`) only. `OpenAIEndpoint` is one send
to any OpenAI-compatible server; `StoredChat` is what makes it safe: it looks into the store,
books what a send may cost before sending it, retries, checks the answer and settles the cost.
No torch here, and the extra `annotate` is needed for `OpenAIEndpoint` and `StoredChat` only.
"""
