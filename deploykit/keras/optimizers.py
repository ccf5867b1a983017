"""Optimizers with Keras 3's names, arguments, defaults and update rules; an update is ops on variables, so a training
step traces into one graph.  Papers are named at the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff.variable import Variable
from deploykit.errors import InputError
from deploykit.keras import schedules
from deploykit.keras.serialize import Configurable, lookup, snake_case
from deploykit.ops.core import F


class Optimizer(Configurable):
    """Base: learning rate, weight decay, clipping, averaging of weights, accumulation of gradients.

    Subclasses give ``slots`` (names of per-variable state) and ``update_step(gradient, variable, learning_rate)``.
    """

    slots: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        if sum(v is not None for v in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise InputError("at most one of clipnorm, clipvalue and global_clipnorm can be set.")
        if gradient_accumulation_steps is not None and gradient_accumulation_steps < 2:
            raise InputError(f"gradient_accumulation_steps: got {gradient_accumulation_steps}, expected 2 or more.")
        self.name = name or snake_case(type(self).__name__)
        self.weight_decay, self.clipnorm, self.clipvalue = weight_decay, clipnorm, clipvalue
        self.global_clipnorm, self.use_ema, self.ema_momentum = global_clipnorm, use_ema, ema_momentum
        self.ema_overwrite_frequency, self.loss_scale_factor = ema_overwrite_frequency, loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.iterations = Variable(np.int32(0), trainable=False, name="iteration", path=f"{self.name}/iteration")
        self._schedule: Any = None
        if isinstance(learning_rate, dict):
            learning_rate = schedules.get(learning_rate)
        if isinstance(learning_rate, schedules.LearningRateSchedule) or callable(learning_rate):
            self._schedule = learning_rate
        else:
            self._rate = Variable(np.float32(learning_rate), trainable=False, name="learning_rate", path=f"{self.name}/learning_rate")  # fmt: skip
        self.built = False
        self._vars: list[Variable] = []
        self._index: dict[Variable, int] = {}
        self._state: dict[str, list[Variable]] = {}
        self._excluded: Callable[[Variable], bool] = lambda v: False

    # ---- rate
    @property
    def learning_rate(self) -> Any:
        """The rate now: a variable, or what the schedule says at this step."""
        if self._schedule is None:
            return self._rate
        s = self._schedule
        return s(self.iterations) if isinstance(s, schedules.LearningRateSchedule) else N.cast(s(), "float32")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self._schedule is not None:
            raise InputError("the learning rate comes from a schedule; make the optimizer with a number to set it.")
        self._rate.assign(value)

    # ---- state
    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state for these trainable variables."""
        if self.built:
            return
        self._vars = list(variables)
        self._index = {v: i for i, v in enumerate(self._vars)}
        for slot in self.slot_names():
            self._state[slot] = [self.make_slot(slot, v) for v in self._vars]
        if self.use_ema:
            self._state["average"] = [self._zeros("average", v) for v in self._vars]
        if self.gradient_accumulation_steps:
            self._state["accumulator"] = [self._zeros("gradient_accumulator", v) for v in self._vars]
        self.built = True

    def slot_names(self) -> tuple[str, ...]:
        """Names of the per-variable state."""
        return self.slots

    def make_slot(self, slot: str, v: Variable) -> Variable:
        """State of one variable, zeros by default."""
        return self._zeros(slot, v)

    def _zeros(self, slot: str, v: Variable, value: float = 0.0) -> Variable:
        path = f"{self.name}/{v.path.replace('/', '_')}_{slot}"
        return Variable(np.full(v.shape, value, v.dtype), trainable=False, name=slot, path=path)

    def slot(self, name: str, v: Variable) -> Variable:
        """A variable's state by the slot's name."""
        return self._state[name][self._index[v]]

    @property
    def variables(self) -> list[Variable]:
        """All state: iteration, learning rate, slots variable by variable, as Keras orders them."""
        head = [self.iterations] + ([self._rate] if self._schedule is None else [])
        names = [s for s in self._state if s not in ("average", "accumulator")]
        own = [self._state[s][i] for i in range(len(self._vars)) for s in names]
        tail = [v for s in ("average", "accumulator") if s in self._state for v in self._state[s]]
        return head + own + tail

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """No decay for these variables, or for those whose path contains one of these names."""
        ids = {id(v) for v in var_list or []}
        names = list(var_names or [])
        self._excluded = lambda v: id(v) in ids or any(n in v.path for n in names)

    # ---- update
    def apply_gradients(self, grads_and_vars: Any) -> Any:
        """Update from (gradient, variable) pairs."""
        grads, variables = zip(*grads_and_vars, strict=True)
        return self.apply(list(grads), list(variables))

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None) -> Any:
        """Update the variables; gradients may be None where a variable does not matter."""
        variables = list(trainable_variables) if trainable_variables is not None else self._vars
        self.build(variables)
        unknown = [v.path for v in variables if v not in self._index]
        if unknown:
            raise InputError(f"optimizer '{self.name}' was built for other variables; unknown: {', '.join(unknown)}.")
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not pairs:
            raise InputError("no gradients for any variable: does the loss depend on the model?")
        if self.loss_scale_factor:
            pairs = [(g / self.loss_scale_factor, v) for g, v in pairs]
        if self.gradient_accumulation_steps:
            self._accumulate(pairs)
        else:
            self._update(pairs)
        self.iterations.assign_add(1)
        return self.iterations

    def _accumulate(self, pairs: list[tuple[Any, Variable]]) -> None:
        from deploykit.autodiff.control import cond

        n = self.gradient_accumulation_steps
        assert n is not None
        for g, v in pairs:
            self.slot("accumulator", v).assign_add(g)

        def update() -> Any:
            sums = [(self.slot("accumulator", v) / float(n), v) for _, v in pairs]
            self._update(sums)
            for _, v in pairs:
                self.slot("accumulator", v).assign(N.zeros(v.shape, v.dtype))
            return N.cast(1, "int32")

        cond(N.equal(N.mod(self.iterations + 1, n), 0), update, lambda: N.cast(0, "int32"))

    def _update(self, pairs: list[tuple[Any, Variable]]) -> None:
        pairs = list(zip(self._clip([g for g, _ in pairs]), [v for _, v in pairs], strict=True))
        lr = N.cast(self.learning_rate, "float32")
        self.prepare()
        for g, v in pairs:
            if self.weight_decay and not self._excluded(v):
                v.assign(v - v * (self.weight_decay * lr))
            self.update_step(g, v, lr)
        if self.use_ema:
            self._average([v for _, v in pairs])
        for _, v in pairs:
            constraint = getattr(v, "constraint", None)
            if constraint is not None:
                v.assign(constraint(v.value))

    def _clip(self, grads: list[Any]) -> list[Any]:
        if self.clipnorm:
            return [g * (self.clipnorm / N.maximum(N.sqrt(N.sum(N.square(g))), self.clipnorm)) for g in grads]
        if self.clipvalue:
            return [N.clip(g, -float(self.clipvalue), float(self.clipvalue)) for g in grads]
        if self.global_clipnorm:
            total: Any = 0.0
            for g in grads:
                total = N.sum(N.square(g)) + total
            factor = self.global_clipnorm / N.maximum(N.sqrt(total), self.global_clipnorm)
            return [g * factor for g in grads]
        return grads

    def _average(self, variables: list[Variable]) -> None:
        first = N.cast(N.equal(self.iterations, 0), "float32")
        m = self.ema_momentum * (1.0 - first)
        for v in variables:
            a = self.slot("average", v)
            a.assign(m * a + (1.0 - m) * v)
        every = self.ema_overwrite_frequency
        if every:
            now = N.equal(N.mod(self.iterations + 1, every), 0)
            for v in variables:
                v.assign(N.where(now, self.slot("average", v), v))

    def finalize_variable_values(self, var_list: Any) -> None:
        """Put the averages in the place of the weights (at the end of ``fit`` with use_ema)."""
        if self.use_ema:
            for v in var_list:
                v.assign(self.slot("average", v).value)

    def prepare(self) -> None:
        """Once per update, before the variables: what all of them share."""

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Change one variable and its slots."""
        raise NotImplementedError(type(self).__name__)

    @property
    def step(self) -> Any:
        """The number of this update, from 1, as a float."""
        return N.cast(self.iterations + 1, "float32")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self._schedule is None:
            config["learning_rate"] = float(self._rate.numpy())
        return config

    def save_own_variables(self, store: Any) -> None:
        """State by number, as Keras' files hold it."""
        for i, v in enumerate(self.variables):
            store[str(i)] = v.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Back from :meth:`save_own_variables`."""
        if len(store.keys()) != len(self.variables):
            raise InputError(
                f"optimizer '{self.name}' has {len(self.variables)} variables, the file {len(store.keys())}: it was saved "
                "with another optimizer or model."
            )
        for i, v in enumerate(self.variables):
            v.assign(np.asarray(store[str(i)]))


class SGD(Optimizer):
    """Gradient descent with momentum, plain or Nesterov."""

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any) -> None:
        if not 0 <= momentum <= 1:
            raise InputError(f"SGD: got momentum={momentum}, expected a number between 0 and 1.")
        super().__init__(learning_rate, **kwargs)
        self.momentum, self.nesterov = momentum, nesterov

    def slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        if not self.momentum:
            v.assign_sub(lr * g)
            return
        m = self.slot("momentum", v)
        m.assign(m * self.momentum - g * lr)
        v.assign_add(m * self.momentum - g * lr if self.nesterov else m)


class Adam(Optimizer):
    """Kingma and Ba (2014); amsgrad after Reddi et al. (2018)."""

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7, amsgrad: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def slot_names(self) -> tuple[str, ...]:
        return ("momentum", "velocity", "velocity_hat") if self.amsgrad else ("momentum", "velocity")

    def prepare(self) -> None:
        t = self.step
        self._alpha = N.sqrt(1.0 - N.power(self.beta_2, t)) / (1.0 - N.power(self.beta_1, t))

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        m, s = self.slot("momentum", v), self.slot("velocity", v)
        if v.dtype == np.float32 and not self.amsgrad:
            how = dict(beta_1=float(self.beta_1), beta_2=float(self.beta_2), epsilon=float(self.epsilon))
            now, new_m, new_s = F.adam_update(v, m, s, g, lr * self._alpha, **how)
            for to, value in ((m, new_m), (s, new_s), (v, now)):
                to.assign(value)
            return
        m.assign(m + (g - m) * (1.0 - self.beta_1))
        s.assign(s + (N.square(g) - s) * (1.0 - self.beta_2))
        if self.amsgrad:
            hat = self.slot("velocity_hat", v)
            hat.assign(N.maximum(hat, s))
            s = hat
        v.assign_sub(m * (lr * self._alpha) / (N.sqrt(s) + self.epsilon))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    def __init__(self, learning_rate: Any = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7, amsgrad: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs)


class RMSprop(Optimizer):
    """Hinton (2012)."""

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7, centered: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slot_names(self) -> tuple[str, ...]:
        return (
            "velocity",
            *(("momentum",) if self.momentum > 0 else ()),
            *(("average_gradient",) if self.centered else ()),
        )

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        s = self.slot("velocity", v)
        s.assign(self.rho * s + (1.0 - self.rho) * N.square(g))
        denominator = s + self.epsilon
        if self.centered:
            a = self.slot("average_gradient", v)
            a.assign(self.rho * a + (1.0 - self.rho) * g)
            denominator = s - N.square(a) + self.epsilon
        increment = lr * g * N.rsqrt(denominator)
        if self.momentum > 0:
            m = self.slot("momentum", v)
            m.assign(self.momentum * m + increment)
            increment = m
        v.assign_sub(increment)


class Adagrad(Optimizer):
    """Duchi et al. (2011)."""

    slots = ("accumulator_",)

    def __init__(self, learning_rate: Any = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def make_slot(self, slot: str, v: Variable) -> Variable:
        return self._zeros(slot, v, self.initial_accumulator_value)

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        a = self.slot("accumulator_", v)
        a.assign_add(g * g)
        v.assign_sub(lr * g / N.sqrt(a + self.epsilon))


class Adadelta(Optimizer):
    """Zeiler (2012)."""

    slots = ("accumulated_gradient", "accumulated_delta")

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.rho, self.epsilon = rho, epsilon

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        a, d = self.slot("accumulated_gradient", v), self.slot("accumulated_delta", v)
        a.assign(self.rho * a + (1.0 - self.rho) * g * g)
        delta = -(N.sqrt(d + self.epsilon) * g) / N.sqrt(a + self.epsilon)
        d.assign(self.rho * d + (1.0 - self.rho) * delta * delta)
        v.assign_add(lr * delta)


class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2014, section 7)."""

    slots = ("momentum", "norm")

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        m, u = self.slot("momentum", v), self.slot("norm", v)
        m.assign(m + (g - m) * (1.0 - self.beta_1))
        u.assign(N.maximum(self.beta_2 * u, N.abs(g)))
        v.assign_sub(lr * m / ((1.0 - N.power(self.beta_1, self.step)) * (u + self.epsilon)))


class Nadam(Optimizer):
    """Adam with Nesterov momentum (Dozat, 2015)."""

    slots = ("momentum", "velocity")

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables: Sequence[Variable]) -> None:
        if not self.built:
            self._product = Variable(np.float32(1.0), trainable=False, name="u_product", path=f"{self.name}/u_product")
        super().build(variables)

    @property
    def variables(self) -> list[Variable]:
        own = super().variables
        return [*own[:2], self._product, *own[2:]] if self.built else own

    def prepare(self) -> None:
        t = self.step
        self._u = self.beta_1 * (1.0 - 0.5 * N.power(0.96, t))
        self._next = self.beta_1 * (1.0 - 0.5 * N.power(0.96, t + 1.0))
        self._product.assign(self._product * self._u)
        self._now = self._product.value

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        m, s = self.slot("momentum", v), self.slot("velocity", v)
        m.assign(m + (g - m) * (1.0 - self.beta_1))
        s.assign(s + (N.square(g) - s) * (1.0 - self.beta_2))
        hat = self._next * m / (1.0 - self._now * self._next) + (1.0 - self._u) * g / (1.0 - self._now)
        v.assign_sub(hat * lr / (N.sqrt(s / (1.0 - N.power(self.beta_2, self.step))) + self.epsilon))


class Lion(Optimizer):
    """Chen et al. (2023)."""

    slots = ("momentum",)

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2 = beta_1, beta_2

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        m = self.slot("momentum", v)
        v.assign_sub(lr * N.sign(m * self.beta_1 + g * (1.0 - self.beta_1)))
        m.assign(m * self.beta_2 + g * (1.0 - self.beta_2))


class Lamb(Optimizer):
    """You et al. (2020)."""

    slots = ("momentum", "velocity")

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        m, s, t = self.slot("momentum", v), self.slot("velocity", v), self.step
        m.assign(m + (g - m) * (1.0 - self.beta_1))
        s.assign(s + (N.square(g) - s) * (1.0 - self.beta_2))
        m_hat, s_hat = m / (1.0 - N.power(self.beta_1, t)), s / (1.0 - N.power(self.beta_2, t))
        update = m_hat / (N.sqrt(s_hat) + self.epsilon)
        w_norm, u_norm = N.sqrt(N.sum(N.power(v, 2))), N.sqrt(N.sum(N.power(update, 2)))
        both = (w_norm > 0.0) & (u_norm > 0.0)
        v.assign_sub(lr * N.where(both, w_norm / N.where(both, u_norm, 1.0), 1.0) * update)


class Ftrl(Optimizer):
    """Follow the regularised leader (McMahan et al., 2013)."""

    slots = ("accumulator_", "linear")

    def __init__(self, learning_rate: Any = 0.001, learning_rate_power: float = -0.5, initial_accumulator_value: float = 0.1, l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0, l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.learning_rate_power, self.initial_accumulator_value = learning_rate_power, initial_accumulator_value
        self.l1, self.l2 = l1_regularization_strength, l2_regularization_strength
        self.l2_shrinkage, self.beta = l2_shrinkage_regularization_strength, beta

    def make_slot(self, slot: str, v: Variable) -> Variable:
        return self._zeros(slot, v, self.initial_accumulator_value if slot == "accumulator_" else 0.0)

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        a, z = self.slot("accumulator_", v), self.slot("linear", v)
        p = self.learning_rate_power
        l2 = self.l2 + self.beta / (2.0 * lr)
        shrunk = g + 2.0 * self.l2_shrinkage * v
        new = a + N.square(g)
        z.assign(z + shrunk - (N.power(new, -p) - N.power(a, -p)) / lr * v)
        quadratic = N.power(new, -p) / lr + 2.0 * l2
        v.assign((N.clip(z, -float(self.l1), float(self.l1)) - z) / quadratic)
        a.assign(new)


class Adafactor(Optimizer):
    """Shazeer and Stern (2018): second moments of matrices by rows and columns."""

    def __init__(self, learning_rate: Any = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30, epsilon_2: float = 1e-3, clip_threshold: float = 1.0, relative_step: bool = True, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(learning_rate, **kwargs)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def slot_names(self) -> tuple[str, ...]:
        return ("r", "c", "v")

    def make_slot(self, slot: str, v: Variable) -> Variable:
        if slot == "v":
            return self._zeros("velocity", v)
        shape: tuple[int, ...] = (1,)
        if len(v.shape) >= 2:
            shape = v.shape[:-1] if slot == "r" else (*v.shape[:-2], v.shape[-1])
        path = f"{self.name}/{v.path.replace('/', '_')}_{slot}"
        return Variable(np.zeros(shape, v.dtype), trainable=False, name=slot, path=path)

    def update_step(self, g: Any, v: Variable, lr: Any) -> None:
        t = self.step
        rate = N.minimum(lr, 1.0 / N.sqrt(t)) if self.relative_step else lr
        rms = N.sqrt(N.mean(N.square(v)))
        alpha = N.maximum(self.epsilon_2, rms) * rate
        beta = 1.0 - N.power(t, self.beta_2_decay)
        square = N.square(g) + self.epsilon_1
        if len(v.shape) >= 2:
            r, c = self.slot("r", v), self.slot("c", v)
            r.assign(beta * r + (1.0 - beta) * N.mean(square, -1))
            c.assign(beta * c + (1.0 - beta) * N.mean(square, -2))
            rows = N.expand_dims(r / N.mean(r, -1, keepdims=True), -1)
            moment: Any = rows * N.expand_dims(c.value, -2)
        else:
            s = self.slot("v", v)
            s.assign(beta * s + (1.0 - beta) * square)
            moment = s
        u = g * N.rsqrt(moment)
        u_hat = u / N.maximum(1.0, N.sqrt(N.mean(N.square(u))) / self.clip_threshold)
        v.assign(v - alpha * u_hat)


ALL: dict[str, Any] = {}
for _cls in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam, Lion, Lamb, Ftrl, Adafactor):
    ALL[_cls.__name__] = ALL[_cls.__name__.lower()] = _cls


def get(identifier: Any) -> Optimizer:
    """An optimizer by name, config or itself."""
    return lookup("optimizer", ALL, identifier)


def deserialize(config: Any) -> Optimizer:
    """An optimizer of its config."""
    return get(config)


def serialize(optimizer: Optimizer) -> Any:
    """Its config."""
    from deploykit.keras.serialize import serialize as to_config

    return to_config(optimizer)
