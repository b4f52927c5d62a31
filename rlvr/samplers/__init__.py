"""The engines that generate completions: Hugging Face, vLLM, OpenAI-compatible servers, scripts."""
