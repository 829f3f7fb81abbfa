// HealthChecks: the checks behind /health, /livez and /readyz. Any I/O thread.
using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>One outcome: null for good, else the reason.</summary>
internal sealed record CheckOutcome(string Name, string? Failure);

/// <summary>Asks the member how it is.</summary>
internal sealed class HealthChecks(MemberPort port)
{
    /// <summary>RangeRequest{key: \0, range_end: \0, limit: 1, keys_only, serializable}.</summary>
    private static ReadOnlySpan<byte> AnyKey => [0x0a, 0x01, 0x00, 0x12, 0x01, 0x00, 0x18, 0x01, 0x38, 0x01, 0x40, 0x01];

    /// <summary>The checks of <c>/livez</c>.</summary>
    public static string[] LiveNames { get; } = ["serializable_read"];

    /// <summary>The checks of <c>/readyz</c>.</summary>
    public static string[] ReadyNames { get; } = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

    /// <summary>What <c>/health</c> says: null for healthy, else the reason.</summary>
    /// <param name="excluded">Alarm names not to look at.</param>
    /// <param name="serializable">No leader needed; read locally.</param>
    public async ValueTask<string?> HealthAsync(List<string> excluded, bool serializable)
    {
        if (AlarmReason(excluded) is string alarm)
        {
            return alarm;
        }

        if (!serializable && port.Member.Status.Leader == 0)
        {
            return "RAFT NO LEADER";
        }

        ErrorCode read = await ReadAsync(serializable);
        return read == ErrorCode.None ? null : "RANGE ERROR:" + Errors.Get(read).Message;
    }

    /// <summary>Runs one of the named checks.</summary>
    public async ValueTask<CheckOutcome> RunAsync(string name)
    {
        switch (name)
        {
            case "data_corruption":
                return new CheckOutcome(name, port.Member.Alarms.HasCorrupt ? "alarm activated: CORRUPT" : null);
            case "non_learner":
                return new CheckOutcome(name, port.Member.Status.IsLearner ? "not supported for learner" : null);
            default:
                ErrorCode read = await ReadAsync(name == "serializable_read");
                return new CheckOutcome(name, read == ErrorCode.None ? null : Errors.Get(read).Message);
        }
    }

    private string? AlarmReason(List<string> excluded)
    {
        foreach (Alarm alarm in port.Member.Alarms.Alarms)
        {
            string name = MaintenanceService.NameOf(alarm.Kind);
            if (!excluded.Contains(name))
            {
                return name is "NOSPACE" or "CORRUPT" ? "ALARM " + name : "ALARM UNKNOWN";
            }
        }

        return null;
    }

    private async ValueTask<ErrorCode> ReadAsync(bool serializable)
    {
        RequestSlot slot = port.Member.Rent();
        try
        {
            ErrorCode outcome = serializable
                ? ErrorCode.None
                : await port.Member.ReadIndexAsync(slot, port.Clock.NowNs + port.Member.Options.RequestTimeoutNs);
            return outcome == ErrorCode.None ? port.Range(AnyKey, slot) : outcome;
        }
        finally
        {
            port.Member.Return(slot);
        }
    }
}
