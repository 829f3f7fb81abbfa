// MemberEnvironment: the world a member is started in. Production hands over the machine, the simulator a model.
using System;
using Cairn.Base;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Everything outside a member that it may touch.</summary>
public sealed class MemberEnvironment
{
    public required IFileSystem FileSystem { get; init; }

    public required IClock Clock { get; init; }

    public required IRandom Random { get; init; }

    public required IFatal Fatal { get; init; }

    /// <summary>Buffers of this member alone.</summary>
    public required NativePool Pool { get; init; }

    /// <summary>Must not block the caller: the actors log from their threads.</summary>
    public required ILogger Log { get; init; }

    /// <summary>The way to the other members; null where there are none. It outlives the member's actors.</summary>
    public ITransport? Transport { get; init; }

    /// <summary>Sees what is applied; in simulations only.</summary>
    internal IApplyObserver? Observer { get; init; }

    /// <summary>Major page faults of the process so far; asked once a second. Null where nothing can be paged out.</summary>
    public Func<long>? MajorFaults { get; init; }
}

/// <summary>The simulator's view of one member's store thread. Absent in what ships (Mutations.AreCompiled).</summary>
internal interface IApplyObserver
{
    /// <summary>An entry was applied; the view that shows it is not published yet.</summary>
    void Applied(in CommittedEntry entry, Protocol.ErrorCode outcome);

    /// <summary>A snapshot of the leader has taken the state's place.</summary>
    void Installed(ulong index);
}
