"""Writes a model for llama.cpp that needs no download.

A model of one layer that does nothing: the weights of its output are a table of which token follows
which. It calls the tool `bash` when it has tools and no result yet, and answers otherwise. Where
llama.cpp constrains a call with a grammar, the most likely of the permitted tokens follows.
"""

import gguf
import numpy

# No byte twice, since each one decides on the next. The name of the tool and the command begin alike.
COMMAND = "bash;pwd"
ANSWER = "FINE"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<tool_call>", "<|answer|>"]
END, CALL, SAY = 257, 258, 259
# More than the number of tokens: each has a dimension of its own.
SIZE, HEAD, INNER = 288, 32, 32

# That of ChatML with calls as Qwen writes them, in tokens of their own.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
{{ messages[0].content if messages[0].role == 'system' }}
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role == 'assistant' and message.tool_calls %}<|im_start|>assistant
{{ message.content or '' }}{% for call in message.tool_calls %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role != 'system' %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if not tools or messages[-1].role == 'tool' %}<|answer|>{% endif %}{% endif %}"""


def tokens():
    """Returns one token for each byte, as the tokenizer of GPT-2 spells them, and the special ones."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    spelled = {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + at) for at, byte in enumerate(others)}}
    return [spelled[byte] for byte in range(256)] + SPECIAL + [spelled[ord(" ")] * 2]


def table():
    """Returns the weight of each token (row) behind each other (column)."""
    weights = numpy.zeros((len(tokens()), SIZE), numpy.float32)
    for byte, weight in {"\n": -0.5, "\t": -0.5, " ": -0.5, "}": 0.1, "<": 0.05}.items():
        weights[ord(byte)] = weight

    def follow(before, token, weight=1.0):
        weights[token, before if isinstance(before, int) else ord(before)] = weight

    follow("\n", CALL)
    follow(CALL, ord("{"))
    follow("}", ord("<"), 0.09)
    follow(">", END)
    for before, byte in zip('"' + COMMAND, COMMAND + '"'):
        follow(before, ord(byte))
    # Behind the name of the tool, where the grammar does not permit the rest of the command.
    follow("h", ord('"'), 0.5)
    follow(SAY, ord(ANSWER[0]))
    for before, byte in zip(ANSWER, ANSWER[1:]):
        follow(before, ord(byte))
    follow(ANSWER[-1], END)
    # Where the grammar permits no end without a call.
    follow(ANSWER[-1], CALL, 0.5)
    return weights


def write(path):
    """Writes the model to a file."""
    writer = gguf.GGUFWriter(path, "llama")
    words = tokens()
    kinds = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.USER_DEFINED] * 2
    writer.add_vocab_size(len(words))
    writer.add_context_length(1 << 17)
    writer.add_embedding_length(SIZE)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + kinds + [gguf.TokenType.NORMAL])
    # llama.cpp refuses a tokenizer without any.
    writer.add_token_merges([f"{words[ord(' ')]} {words[ord(' ')]}"])
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", numpy.eye(len(words), SIZE, dtype=numpy.float32))
    writer.add_tensor("output.weight", table())
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(SIZE, numpy.float32))
    shapes = {"attn_q": (HEAD, SIZE), "attn_k": (HEAD, SIZE), "attn_v": (HEAD, SIZE), "attn_output": (SIZE, HEAD),
              "ffn_gate": (INNER, SIZE), "ffn_up": (INNER, SIZE), "ffn_down": (SIZE, INNER)}
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", numpy.zeros(shape, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
