// ServerPlan: the outcome of all options: how to log, and what to host.
using Cairn.Native.Logging;
using Cairn.Net.Host;

namespace Cairn.Native.Options;

/// <summary>Everything the executable was asked to do.</summary>
internal sealed record ServerPlan(LogOptions Log, HostOptions Host);
