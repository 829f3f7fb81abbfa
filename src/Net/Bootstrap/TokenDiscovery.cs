// TokenDiscovery: the members of a new cluster by registering at another etcd under a token: the v3 form of discovery.
//
// Keys       /_etcd/registry/TOKEN/_config/size = how many; /_etcd/registry/TOKEN/members/HEXID = NAME=URL,NAME=URL.
// Rules      size is looked at, then who is there; this member registers; then all wait until there are size of them. The
//            first size by create revision are the cluster; whoever is not among them is refused. An unreachable registry is
//            tried again after 1, 2, 4 … seconds.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;

namespace Cairn.Net.Bootstrap;

/// <summary>Registers a member and waits for the others.</summary>
/// <param name="registry">Where.</param>
/// <param name="token">Of the cluster to be.</param>
/// <param name="report">Told what is waited for.</param>
/// <param name="delay">Waits; a parameter so that tests need not.</param>
internal sealed class TokenDiscovery(
    IRegistry registry, string token, Action<string> report, Func<TimeSpan, CancellationToken, Task> delay)
{
    private const int LongestBackoff = 8; // 2^8 s
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(500);

    private readonly string _root = "/_etcd/registry/" + token;

    /// <summary>The initial cluster.</summary>
    /// <param name="id">Id of this member.</param>
    /// <param name="config">NAME=URL pairs of this member.</param>
    /// <param name="cancelled">Ends the wait.</param>
    /// <exception cref="MemberStartException">The registry says something that no waiting will change.</exception>
    public async Task<List<InitialMember>> JoinAsync(ulong id, string config, CancellationToken cancelled)
    {
        (List<RegistryKey> members, int size) = await StatusAsync(cancelled);
        RequireRoom(members, size, id);
        byte[] own = Encoding.UTF8.GetBytes(_root + "/members/" + MemberIds.ToText(id));
        await RetryAsync(
            async () =>
            {
                await registry.PutAsync(own, Encoding.UTF8.GetBytes(config), cancelled);
                return true;
            },
            cancelled);
        report("found self " + MemberIds.ToText(id) + " in the registry, waiting for " + Show(size) + " members");
        while (true)
        {
            (members, size) = await StatusAsync(cancelled);
            RequireRoom(members, size, id);
            if (members.Count >= size)
            {
                return Parse(members.GetRange(0, size));
            }

            await delay(s_look, cancelled);
        }
    }

    /// <summary>Members that tell more than one name or none are refused.</summary>
    internal static List<InitialMember> Parse(IReadOnlyList<RegistryKey> keys)
    {
        var members = new List<InitialMember>();
        foreach (RegistryKey key in keys)
        {
            string config = Encoding.UTF8.GetString(key.Value);
            string name = "";
            var urls = new List<string>();
            foreach (string part in config.Split(',', StringSplitOptions.RemoveEmptyEntries))
            {
                int equals = part.IndexOf('=', StringComparison.Ordinal);
                if (equals <= 0 || (name.Length != 0 && name != part[..equals])
                    || !ListenUrl.TryParse(part[(equals + 1)..], out ListenUrl url, out _))
                {
                    throw new MemberStartException("discovery: \"" + config + "\" in the registry does not describe a member");
                }

                name = part[..equals];
                urls.Add(url.Text);
            }

            if (urls.Count == 0 || members.Exists(member => member.Name == name))
            {
                throw new MemberStartException("discovery: found duplicate name or no URL in the registry: \"" + config + "\"");
            }

            members.Add(new InitialMember(name, urls));
        }

        return members;
    }

    private static string Show(int value) => value.ToString(CultureInfo.InvariantCulture);

    private void RequireRoom(List<RegistryKey> members, int size, ulong id)
    {
        string own = _root + "/members/" + MemberIds.ToText(id);
        for (int i = 0; i < Math.Min(members.Count, size); i++)
        {
            if (Encoding.UTF8.GetString(members[i].Key) == own)
            {
                return;
            }
        }

        if (members.Count >= size)
        {
            throw new MemberStartException("discovery: cluster is full");
        }
    }

    private async Task<(List<RegistryKey> Members, int Size)> StatusAsync(CancellationToken cancelled)
    {
        List<RegistryKey> sizes = await RetryAsync(
            () => registry.GetAsync(Encoding.UTF8.GetBytes(_root + "/_config/size"), false, cancelled), cancelled);
        if (sizes.Count == 0)
        {
            throw new MemberStartException("discovery: size key not found");
        }

        if (!int.TryParse(sizes[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int size) || size <= 0)
        {
            throw new MemberStartException("discovery: size key is bad");
        }

        List<RegistryKey> members = await RetryAsync(
            () => registry.GetAsync(Encoding.UTF8.GetBytes(_root + "/members/"), true, cancelled), cancelled);
        members.Sort(static (a, b) => a.CreateRevision.CompareTo(b.CreateRevision));
        return (members, size);
    }

    private async Task<T> RetryAsync<T>(Func<Task<T>> action, CancellationToken cancelled)
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                return await action();
            }
            catch (RegistryException e)
            {
                int seconds = 1 << Math.Min(attempt, LongestBackoff);
                report("cannot reach the registry, trying again in " + Show(seconds) + " s: " + e.Message);
                await delay(TimeSpan.FromSeconds(seconds), cancelled);
            }
        }
    }
}
