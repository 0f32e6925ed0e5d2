#include "ops/fused_elementwise.h"

#include <string.h>

bool broadcast_strides(const shape *s, const shape *iteration, int64_t stride[ELBO_MAX_RANK]) {
  int lead = iteration->rank - s->rank;
  if (lead < 0) return false;
  int64_t step = 1;
  for (int axis = iteration->rank - 1; axis >= 0; axis--) {
    int64_t length = axis < lead ? 1 : s->dim[axis - lead];
    if (length != 1 && length != iteration->dim[axis]) return false;
    stride[axis] = length == 1 ? 0 : step;
    step *= length;
  }
  return true;
}

bool elementwise_instruction_of(const node *n, elementwise_instruction *out) {
  memset(out, 0, sizeof *out);
  for (int16_t i = 0; i < n->n_in && i < 3; i++) out->src[i] = i;
  if (n->op == &op_unary || n->op == &op_binary || n->op == &op_where) {
    const elementwise_attr *attr = n->attr;
    out->code = (int16_t)attr->code;
    out->a = attr->a;
    out->b = attr->b;
  } else if (n->op == &op_broadcast_to) {
    out->code = EW_COPY;
  } else if (n->op == &op_random_normal || n->op == &op_random_uniform) {
    out->code = n->op == &op_random_normal ? EW_RANDOM_NORMAL : EW_RANDOM_UNIFORM;
    out->stream = (uint32_t)((const random_attr *)n->attr)->stream;
  } else if (n->op == &op_dropout) {
    const dropout_attr *attr = n->attr;
    out->code = EW_DROPOUT;
    out->stream = (uint32_t)attr->stream;
    out->a = attr->probability;
  } else {
    return false;
  }
  return true;
}

bool elementwise_program_of(const node *n, elementwise_program *out) {
  if (n->op == &op_fused_elementwise) {
    *out = *(const elementwise_program *)n->attr;
    return true;
  }
  memset(out, 0, sizeof *out);
  if (!elementwise_instruction_of(n, &out->code[0])) return false;
  out->n_out = 1;
  out->n_in = n->n_in;
  out->n_instructions = 1;
  out->iteration = n->out[0]->shape;
  out->out[0].reg = n->n_in;
  return true;
}

// --- the rule -------------------------------------------------------------------------------------------------------------------

static bool is_random(int code) { return code == EW_RANDOM_NORMAL || code == EW_RANDOM_UNIFORM || code == EW_DROPOUT; }

// Operands of instruction i: earlier registers; integer inputs exactly where seed and sample_index are asked for.
static bool check_instruction(elbo_graph *g, const node *n, const elementwise_program *p, int64_t i) {
  const elementwise_instruction *c = &p->code[i];
  if (c->code < 0 || c->code >= EW_CODE_COUNT) {
    graph_fail(g, ELBO_ERROR_INTERNAL, "fused_elementwise: instruction %d has unknown code %d", (int)i, c->code);
    return false;
  }
  int operands = elementwise_operands((elementwise_code)c->code), integers = is_random(c->code) ? operands - 2 : operands;
  for (int s = 0; s < operands; s++) {
    int reg = c->src[s];
    bool integer = reg >= 0 && reg < p->n_in && n->in[reg]->dtype == ELBO_I64;
    int64_t length = !integer ? -1 : shape_count(&n->in[reg]->shape);
    bool fits = reg >= 0 && reg < p->n_in + i && integer == (s >= integers);
    if (fits && integer) fits = length == (s == integers ? 1 : p->iteration.rank > 0 ? p->iteration.dim[0] : 1);
    if (!fits) {
      graph_fail(g, ELBO_ERROR_INTERNAL, "fused_elementwise: operand %d (register %d) of instruction %d (%s) does not fit", s, reg, (int)i,
                 elementwise_code_name((elementwise_code)c->code));
      return false;
    }
  }
  return true;
}

static bool infer_fused(elbo_graph *g, node *n) {
  const elementwise_program *p = n->attr;
  char have[SHAPE_TEXT], want[SHAPE_TEXT];
  if (p->n_in != n->n_in || p->n_in > EW_MAX_INPUTS || p->n_instructions < 0 || p->n_instructions > EW_MAX_INSTRUCTIONS || p->n_out < 1 ||
      p->n_out > EW_MAX_OUTPUTS || p->n_out != n->n_out || p->sum_axis < 0 || p->sum_axis > p->iteration.rank) {
    graph_fail(g, ELBO_ERROR_INTERNAL, "fused_elementwise: %d inputs, %d instructions, %d outputs, sum axis %d: out of range", (int)p->n_in,
               (int)p->n_instructions, (int)p->n_out, (int)p->sum_axis);
    return false;
  }
  for (int i = 0; i < p->n_in; i++) {
    int64_t stride[ELBO_MAX_RANK];
    if (n->in[i]->dtype == ELBO_I64) continue;
    if (n->in[i]->dtype != ELBO_F32 || !broadcast_strides(&n->in[i]->shape, &p->iteration, stride)) {
      graph_fail(g, ELBO_ERROR_INTERNAL, "fused_elementwise: input %d, %s %s, does not broadcast to %s", i,
                 elbo_dtype_name(n->in[i]->dtype), shape_text(&n->in[i]->shape, have), shape_text(&p->iteration, want));
      return false;
    }
  }
  for (int64_t i = 0; i < p->n_instructions; i++)
    if (!check_instruction(g, n, p, i)) return false;
  for (int o = 0; o < p->n_out; o++) {
    int reg = p->out[o].reg;
    if (reg < 0 || reg >= p->n_in + p->n_instructions || (reg < p->n_in && n->in[reg]->dtype != ELBO_F32)) {
      graph_fail(g, ELBO_ERROR_INTERNAL, "fused_elementwise: output %d names register %d", o, reg);
      return false;
    }
    n->out[o]->dtype = ELBO_F32;
    n->out[o]->shape = p->iteration;
    if (p->out[o].sum) n->out[o]->shape = shape_of((int)p->sum_axis, p->iteration.dim);
  }
  return true;
}

static int64_t fused_flops(const node *n) {
  const elementwise_program *p = n->attr;
  return shape_count(&p->iteration) * p->n_instructions;
}

// Rebuilding is not needed: the fuse pass runs after differentiation.
const op_def op_fused_elementwise = {.name = "fused_elementwise",
                                     .attr_size = sizeof(elementwise_program),
                                     .n_in = -1,
                                     .n_out = -1,
                                     .flags = OP_ELEMENTWISE | OP_INPLACE | OP_CHEAP,
                                     .infer = infer_fused,
                                     .flops = fused_flops,
                                     .reference = elementwise_reference};

node *graph_add_fused_elementwise(elbo_graph *g, const elementwise_program *p, int n_in, elbo_tensor *const *in) {
  if (!g || g->error) return NULL;
  return graph_add_node(g, &op_fused_elementwise, p, n_in, in, NULL);
}
