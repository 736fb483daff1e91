"""The shell of control: netlink, ZeroMQ, the metrics server and the clock around the mirror and the reports."""

import math
from collections.abc import Iterable
from typing import Any, Final

import structlog
import zmq

from services.common.bus import (
    RpcClient,
    RpcServer,
    StatePublisher,
    StateSubscriber,
    also_listen,
    bound,
    hold_instance,
    receive,
)
from services.common.compiler_memory import give_back_compiler
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.guard import TranslatedPorts
from services.common.kernel_settings import (
    NEXTHOP_COMPATIBILITY,
    KernelOwnership,
    read_setting,
    record_path,
    shortcomings,
)
from services.common.logs import set_up_logging
from services.common.messages import MessageError, NeighbourState, Report, RouterState, decode
from services.common.notify import Notifier
from services.common.parameters import Parameters
from services.common.runtime import POLL_MS, ReloadFlag, StopFlag, clock
from services.control.config import Config
from services.control.configuration.manager import Configuration
from services.control.configuration.methods import ConfigMethods
from services.control.configuration.origin import Origin
from services.control.configuration.record import RecordStore, record_file
from services.control.configuration.saved import in_force
from services.control.configuration.settings import RpcSettings
from services.control.kernel_changes import KernelChanges
from services.control.live_parameters import LiveParameters
from services.control.mirror import KernelMirror
from services.control.monitoring.monitor import Monitor
from services.control.monitoring.snapshot import CONTROL as INSTANCE
from services.control.nat_ports import translated_ports
from services.control.nat_store import NatStore, nat_path
from services.control.netlink import KernelNetlink
from services.control.permanent import PermanentNeighbours, permanent_path
from services.control.policies import InterfacePolicies
from services.control.remote import RemoteRpc
from services.control.reports import Reports
from services.control.rib import Rib
from services.control.rpc import ControlMethods
from services.control.view import KnownNeighbours, RouterView

REVIEW_INTERVAL_S: Final = 0.25
"""How often the metrics are renewed, and what changed is logged: as often as the services report."""
UNSETTLED_POLL_MS: Final = 20
"""The pause before the next attempt, while the kernel gives no whole dump."""
COALESCE_S: Final = 0.005
"""The pause after a publication in which the kernel's announcements are left to gather. What comes alone goes at once;
a flood goes in parts that cost each subscriber little."""
REPORTS_PER_TURN: Final = 1024


class ControlService:
    """The process: one turn of its loop follows the kernel, takes reports, answers, and publishes what changed."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoints: Endpoints,
        origin: Origin,
        log: structlog.stdlib.BoundLogger,
        listen: str = "",
        *,
        manage_kernel: bool = True,
    ) -> None:
        """Take the instance's lock and open all sockets.

        :param origin: what it was started with.
        :param listen: one more endpoint for reports, of an ingress that does not share the run directory.
        :param manage_kernel: whether to take over what hopwire does itself from the kernel.
        :raises HopwireError: an instance runs already, or the run directory, the configuration or the endpoint is
            unusable.
        """
        self._lock = hold_instance(endpoints, INSTANCE)
        self._endpoints = endpoints
        self._log_format = origin.log_format
        self._configuration = Configuration(origin, RecordStore(record_file(endpoints.run_dir)), log)
        config = self._configuration.config
        self.log = self._configuration.log = set_up_logging(INSTANCE, config.log_level, self._log_format)
        self._live = LiveParameters(config.parameters)
        self._counters = CounterBlock(endpoints.counters(INSTANCE))
        self._ownership = KernelOwnership(record_path(endpoints.run_dir)) if manage_kernel else None
        self._owned: list[str] | None = None
        self._translated: list[TranslatedPorts] = []
        self._netlink = KernelNetlink()
        self._rib = Rib(InterfacePolicies(config.interfaces))
        self._mirror = KernelMirror(self._netlink, self._rib)
        self._reports = Reports()
        self._neighbours = KnownNeighbours()
        self._view = RouterView(self._rib, self._reports)
        self._permanent = PermanentNeighbours(
            config.parameters.arp.permanent_neighbours, permanent_path(endpoints.run_dir)
        )
        self._nat = NatStore(config.nat, nat_path(endpoints.run_dir))
        self._silent: set[str] = set()
        self._notifier = Notifier()
        self._read_counts(path.stem for path in endpoints.counters(INSTANCE).parent.glob("*.bin"))
        self._monitor = Monitor(
            config=config,
            parameters=self._live,
            rib=self._rib,
            mirror=self._mirror,
            reports=self._reports,
            neighbours=self._neighbours,
            view=self._view,
            counters=self._counters,
            log=self.log,
        )
        self._ownership_warnings: list[str] = []
        self._next_review_at = float("-inf")
        self._open_sockets(context, endpoints)
        if listen:
            also_listen(self._inbox, listen)

    def _open_sockets(self, context: zmq.Context[Any], endpoints: Endpoints) -> None:
        self._state = StatePublisher(
            context,
            endpoints.control_state,
            endpoints.control_snapshot,
            lambda: self._rib.full_state(self._parameters, self._nat.current),
        )
        self._inbox = bound(context, zmq.PULL, endpoints.control_reports)
        self._arp_state = StateSubscriber(context, endpoints.arp_state, endpoints.arp_snapshot)
        self._forwarder = RpcClient(context, endpoints.forwarder_rpc)
        self._arp = RpcClient(context, endpoints.arp_rpc)
        changes = KernelChanges(self._netlink)
        self._configuration.connect(self._rib, self._mirror, changes, self)
        methods = ControlMethods(
            rib=self._rib,
            mirror=self._mirror,
            changes=changes,
            view=self._view,
            configuration=ConfigMethods(
                self._configuration, self, self._live, self._permanent, self._nat, self._rib, clock
            ),
            forwarder=self._forwarder,
            arp=self._arp,
            permanent=self._permanent,
            nat=self._nat,
            clock=clock,
            recordings=endpoints.recordings,
            tell=self._tell,
        )
        self._rpc = RpcServer(context, endpoints.control_rpc, methods)
        self._published_at = float("-inf")
        self._poller = zmq.Poller()
        self._remote = RemoteRpc(
            methods, lambda socket: self._poller.register(socket, zmq.POLLIN), self._poller.unregister
        )
        self._poller.register(self._netlink.fileno(), zmq.POLLIN)
        for socket in (self._inbox, self._rpc.socket):
            self._poller.register(socket, zmq.POLLIN)

    def _read_counts(self, instances: Iterable[str]) -> None:
        """Take over what services counted that may never report again, such as those of interfaces that are gone."""
        for instance in sorted(instances):
            path = self._endpoints.counters(instance)
            if path.exists():  # that of an ingress elsewhere is not here
                block = CounterBlock(path)
                self._reports.take_counts(instance, block.snapshot(), block.meters.snapshot())
                block.close()

    # --- What a configuration has control do --------------------------------------------------------------------------

    def in_force(self, config: Config) -> Config:
        """Return a configuration with what was changed since by `config set` and `link set`."""
        return in_force(config, self._rib, self._live.current)

    def listen(self, rpc: RpcSettings | None) -> None:
        """Listen for other machines, or not.

        :raises HopwireError: that is not possible; all is as before.
        """
        self._remote.configure(rpc)

    def adopt(self, config: Config) -> None:
        """Do as a configuration says from now on."""
        self.log = self._configuration.log = set_up_logging(INSTANCE, config.log_level, self._log_format)
        self._live.configure(config.parameters)
        self._permanent.configure(config.parameters.arp.permanent_neighbours)
        self._nat.configure(config.nat)
        self._rib.policies.configure(config.interfaces)
        for index in self._rib.links:
            self._rib.change_policy(index, {})  # it is to be published anew where it is another one
        self._monitor.adopt(config, self.log)

    # --- The loop -----------------------------------------------------------------------------------------------------

    def run(self, stop: StopFlag, reload: ReloadFlag) -> None:
        """Work until `stop` is set, then give back to the kernel what was taken over.

        :param reload: when it is set, the configuration file is applied again.
        :raises HopwireError: what the kernel owns cannot be recorded.
        """
        give_back_compiler()
        try:
            while not stop.is_set:
                if reload.take():
                    self._configuration.reload(clock())
                self._turn()
                self._arp_state.register(self._poller)
                self._poller.poll(self._pause_ms(clock()))
            self._configuration.end()
        finally:
            if self._ownership is not None:
                for warning in self._ownership.restore():
                    self.log.warning(warning)

    def _pause_ms(self, now: float) -> int:
        """Return how long to wait for messages, and for announcements if it is not too soon for these."""
        gather_ms = math.ceil((self._published_at + COALESCE_S - now) * 1000)
        self._poller.register(self._netlink.fileno(), 0 if gather_ms > 0 else zmq.POLLIN)
        if gather_ms > 0:
            return gather_ms
        return UNSETTLED_POLL_MS if self._rib.unsettled else POLL_MS

    def close(self) -> None:
        """Close everything, and let go of the instance's name."""
        self._monitor.close()
        self._remote.close()
        for part in (self._state, self._inbox, self._arp_state, self._forwarder, self._arp, self._rpc, self._netlink):
            part.close()
        self._counters.close()
        self._lock.close()

    def _turn(self) -> None:
        now = clock()
        if now >= self._published_at + COALESCE_S:
            self._mirror.follow()
        self._take_reports(now)
        self._follow_arp(now)
        self._configuration.turn(now)
        malformed = self._rpc.serve() + self._remote.serve()
        self._publish(now)
        if self._view.last_generation:
            malformed += self._state.answer_requests()
            self._state.beat(now)
        if malformed:
            self._counters.add(Counter.BAD_MESSAGES, malformed)
        if now >= self._next_review_at:
            self._next_review_at = now + REVIEW_INTERVAL_S
            self._review(now)

    def _tell(self) -> None:
        """Tell the other services what the kernel has told by now, without waiting for more of it."""
        self._mirror.follow()
        self._publish(clock())

    def _publish(self, now: float) -> None:
        """Send what changed; nothing before the first dump, nor while the mirror needs a new one."""
        if self._rib.unsettled:
            return
        self._own_interfaces()
        if self._rib.unsettled:
            return
        changes = self._rib.take_changes()
        if self._view.last_generation == 0:
            changes = RouterState()  # all subscribers start with a snapshot; a number of its own tells it from none
            self._poller.register(self._state.snapshots, zmq.POLLIN)
            for name in self._rib.policies.absent({link.name for link in self._rib.links.values()}):
                self.log.info("configured, but not there yet", interface=name)
        if self._permanent.take_changed() | self._live.take_changed():
            changes = (changes or RouterState()).model_copy(update={"parameters": self._parameters})
        if self._nat.take_changed():
            changes = (changes or RouterState()).model_copy(update={"nat": self._nat.current})
        if changes is not None:
            self._state.publish(changes, now)
            self._view.last_generation = self._state.sequence
            self._published_at = now

    @property
    def _parameters(self) -> Parameters:
        return self._permanent.within(self._live.current)

    def _own_interfaces(self) -> None:
        names = self._rib.ethernet_names
        translated = self._translated_ports() if names else []
        if names == self._owned and translated == self._translated:
            return
        if self._ownership is None:
            self._ownership_warnings = shortcomings(names)
        else:
            if self._rib.lacks_next_hops and read_setting(NEXTHOP_COMPATIBILITY) == "0":  # `take` makes the kernel tell
                self._rib.unsettled = "the kernel has told no next hops of nexthop objects"
            try:
                self._ownership_warnings = self._ownership.take(names, translated)
            except HopwireError as error:
                if self._owned is None:
                    raise
                self._ownership_warnings = [error.message]
        self._owned = names
        self._translated = translated

    def _translated_ports(self) -> list[TranslatedPorts]:
        """Return what of the router's own addresses is the translator's, so that the kernel does not answer there."""
        return translated_ports(self._nat.current, self._rib.interfaces)

    def _take_reports(self, now: float) -> None:
        for _ in range(REPORTS_PER_TURN):
            parts = receive(self._inbox)
            if parts is None:
                return
            try:
                message = decode(parts[-1])
            except MessageError:
                message = None
            if isinstance(message, Report):
                self._reports.take(message, now)
            else:
                self._counters.add(Counter.BAD_MESSAGES)

    def _follow_arp(self, now: float) -> None:
        for state in self._arp_state.receive(now):
            if isinstance(state, NeighbourState):
                self._neighbours.apply(state)
            else:
                self._counters.add(Counter.BAD_MESSAGES)
        if self._arp_state.malformed:
            self._counters.add(Counter.BAD_MESSAGES, self._arp_state.malformed)
            self._arp_state.malformed = 0
        self._arp_state.register(self._poller)

    def _review(self, now: float) -> None:
        """Renew the metrics, and log what is new for the person who runs the router."""
        self._monitor.measure()
        silent = {one.instance for one in self._reports.health(now) if not one.up}
        self._read_counts(silent - self._silent)  # what they counted after their last report
        self._silent = silent
        self._reports.forget_gone(self._rib.links, now)
        self._view.warnings = [
            *self._ownership_warnings,
            *filter(None, [self._permanent.warning, self._nat.warning]),
            *self._configuration.warnings,
            *self._monitor.start_server(now),
        ]
        self._notifier.tell(ready=self._view.last_generation > 0, status="; ".join(self._view.warnings))
        self._monitor.renew(now)
