"""Where data come from: vector environments and the pipelines that collect windows from them."""
